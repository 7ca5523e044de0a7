-- Other databases whose contents belong to the app: those that a restore has made under another name, or kept.
SELECT datname FROM pg_database
WHERE datallowconn AND NOT datistemplate AND datname NOT IN (current_database(), 'postgres')
ORDER BY datname;
