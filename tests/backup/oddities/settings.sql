-- * rows that every setting prints otherwise
CREATE TABLE public.t (at timestamptz, raw bytea, i interval, d date, f float8, m money, a text[], j text); INSERT INTO public.t VALUES ('2026-07-01 12:00Z', '\xdeadbeef', '1 day 2 hours', '2026-07-04', 0.1 + 0.2, 1234.5, '{NULL,a}', E'žluť\\😀'); CREATE VIEW public.v AS SELECT 'a\b'::text AS s, '1 day 2 hours'::interval AS i, '2026-07-04'::date AS d, 1234.5::money AS m, '\x00'::bytea AS b, '2026-07-01 12:00Z'::timestamptz AS z, 0.1::float8 AS f; CREATE TABLE public.u (i interval DEFAULT '1 day 2 hours', m money DEFAULT 1234.5, z timestamptz DEFAULT '2026-07-01 12:00Z' CHECK (z > '2020-01-01 12:00Z'), s text DEFAULT 'a\b', b bytea DEFAULT '\xff'::bytea); CREATE TABLE public.p (d timestamptz) PARTITION BY RANGE (d); CREATE TABLE public.p1 PARTITION OF public.p FOR VALUES FROM ('2026-01-01Z') TO ('2026-07-01Z');
-- * the setting timezone
SELECT pg_temp.set('timezone', 'Asia/Tokyo');
-- * the setting bytea_output
SELECT pg_temp.set('bytea_output', 'escape');
-- * the setting datestyle
SELECT pg_temp.set('datestyle', 'SQL, DMY');
-- * the setting intervalstyle
SELECT pg_temp.set('intervalstyle', 'iso_8601');
-- * the setting extra_float_digits
SELECT pg_temp.set('extra_float_digits', '-15');
-- * the setting search_path
SELECT pg_temp.set('search_path', 'pg_temp');
-- * the setting default_transaction_read_only
SELECT pg_temp.set('default_transaction_read_only', 'on');
-- * the setting default_transaction_isolation
SELECT pg_temp.set('default_transaction_isolation', 'serializable');
-- * the setting default_transaction_deferrable
SELECT pg_temp.set('default_transaction_deferrable', 'on');
-- * the setting quote_all_identifiers
SELECT pg_temp.set('quote_all_identifiers', 'on');
-- * the setting standard_conforming_strings
SELECT pg_temp.set('standard_conforming_strings', 'off');
-- * the setting client_encoding
SELECT pg_temp.set('client_encoding', 'LATIN2');
-- * the setting xmlbinary
SELECT pg_temp.set('xmlbinary', 'hex');
-- * the setting xmloption
SELECT pg_temp.set('xmloption', 'document');
-- * the setting array_nulls
SELECT pg_temp.set('array_nulls', 'off');
-- * the setting lc_monetary
SELECT pg_temp.set('lc_monetary', 'C');
-- * the setting lc_numeric
SELECT pg_temp.set('lc_numeric', 'C');
-- * the setting lc_time
SELECT pg_temp.set('lc_time', 'C');
-- * the setting lc_messages
SELECT pg_temp.set('lc_messages', 'C');
-- * the setting statement_timeout
SELECT pg_temp.set('statement_timeout', '3ms');
-- * the setting lock_timeout
SELECT pg_temp.set('lock_timeout', '3ms');
-- * the setting idle_in_transaction_session_timeout
SELECT pg_temp.set('idle_in_transaction_session_timeout', '3ms');
-- * the setting idle_session_timeout
SELECT pg_temp.set('idle_session_timeout', '5ms');
-- * the setting transform_null_equals
SELECT pg_temp.set('transform_null_equals', 'on');
-- * the setting backslash_quote
SELECT pg_temp.set('backslash_quote', 'off');
-- * the setting escape_string_warning
SELECT pg_temp.set('escape_string_warning', 'off');
-- * the setting check_function_bodies
SELECT pg_temp.set('check_function_bodies', 'off');
-- * the setting row_security
SELECT pg_temp.set('row_security', 'on');
-- * the setting default_tablespace
SELECT pg_temp.set('default_tablespace', '');
-- * the setting default_table_access_method
SELECT pg_temp.set('default_table_access_method', 'heap');
-- * the setting default_toast_compression
SELECT pg_temp.set('default_toast_compression', 'pglz');
-- * the setting temp_tablespaces
SELECT pg_temp.set('temp_tablespaces', '');
-- * the setting lo_compat_privileges
SELECT pg_temp.set('lo_compat_privileges', 'on');
-- * the setting synchronize_seqscans
SELECT pg_temp.set('synchronize_seqscans', 'on');
-- * the setting enable_seqscan
SELECT pg_temp.set('enable_seqscan', 'off');
-- * the setting enable_indexscan
SELECT pg_temp.set('enable_indexscan', 'off');
-- * the setting plan_cache_mode
SELECT pg_temp.set('plan_cache_mode', 'force_generic_plan');
-- * the setting from_collapse_limit
SELECT pg_temp.set('from_collapse_limit', '1');
-- * the setting join_collapse_limit
SELECT pg_temp.set('join_collapse_limit', '1');
-- * the setting constraint_exclusion
SELECT pg_temp.set('constraint_exclusion', 'off');
-- * the setting jit
SELECT pg_temp.set('jit', 'on');
-- * the setting work_mem
SELECT pg_temp.set('work_mem', '64kB');
-- * the setting maintenance_work_mem
SELECT pg_temp.set('maintenance_work_mem', '1MB');
-- * the setting temp_buffers
SELECT pg_temp.set('temp_buffers', '100');
-- * the setting max_parallel_workers_per_gather
SELECT pg_temp.set('max_parallel_workers_per_gather', '4');
-- * the setting debug_parallel_query
SELECT pg_temp.set('debug_parallel_query', 'on');
-- * the setting gin_fuzzy_search_limit
SELECT pg_temp.set('gin_fuzzy_search_limit', '1');
-- * the setting client_min_messages
SELECT pg_temp.set('client_min_messages', 'debug1');
-- * the setting client_connection_check_interval
SELECT pg_temp.set('client_connection_check_interval', '1s');
-- * the setting application_name
SELECT pg_temp.set('application_name', 'it''s');
-- * the setting default_text_search_config
SELECT pg_temp.set('default_text_search_config', 'simple');
-- * the setting password_encryption
SELECT pg_temp.set('password_encryption', 'md5');
-- * the setting session_replication_role
SELECT pg_temp.set('session_replication_role', 'replica');
-- * the setting vacuum_cost_delay
SELECT pg_temp.set('vacuum_cost_delay', '10');
-- * the setting default_statistics_target
SELECT pg_temp.set('default_statistics_target', '1');
-- * the setting zero_damaged_pages
SELECT pg_temp.set('zero_damaged_pages', 'off');
-- * the setting ignore_checksum_failure
SELECT pg_temp.set('ignore_checksum_failure', 'on');
-- * the setting allow_system_table_mods
SELECT pg_temp.set('allow_system_table_mods', 'on');
-- * the setting ignore_system_indexes
SELECT pg_temp.set('ignore_system_indexes', 'on');
-- * the setting restrict_nonsystem_relation_kind
SELECT pg_temp.set('restrict_nonsystem_relation_kind', 'view');
-- * the setting event_triggers
SELECT pg_temp.set('event_triggers', 'off');
-- * the setting createrole_self_grant
SELECT pg_temp.set('createrole_self_grant', 'set');
-- * the setting debug_print_plan
SELECT pg_temp.set('debug_print_plan', 'on');
-- * the setting log_statement
SELECT pg_temp.set('log_statement', 'all');
-- * the setting wal_compression
SELECT pg_temp.set('wal_compression', 'on');
-- * the setting commit_delay
SELECT pg_temp.set('commit_delay', '10');
-- * the setting recursive_worktable_factor
SELECT pg_temp.set('recursive_worktable_factor', '1');
-- * the setting cursor_tuple_fraction
SELECT pg_temp.set('cursor_tuple_fraction', '0.01');
-- * the setting exit_on_error
SELECT pg_temp.set('exit_on_error', 'off');
-- * the setting tcp_user_timeout
SELECT pg_temp.set('tcp_user_timeout', '10000');
-- * the setting transaction_timeout
SELECT pg_temp.set('transaction_timeout', '5s');
-- * the setting track_activities
SELECT pg_temp.set('track_activities', 'off');
-- * the setting hash_mem_multiplier
SELECT pg_temp.set('hash_mem_multiplier', '1');
-- * the setting vacuum_freeze_min_age
SELECT pg_temp.set('vacuum_freeze_min_age', '0');
-- * the setting icu_validation_level
SELECT pg_temp.set('icu_validation_level', 'error');
-- * the setting debug_discard_caches
SELECT pg_temp.set('debug_discard_caches', '1');
-- * the setting synchronous_commit
SELECT pg_temp.set('synchronous_commit', 'off');
-- * the setting wal_skip_threshold
SELECT pg_temp.set('wal_skip_threshold', '0');
-- * the setting stats_fetch_consistency
SELECT pg_temp.set('stats_fetch_consistency', 'snapshot');
-- * the setting enable_partition_pruning
SELECT pg_temp.set('enable_partition_pruning', 'off');
-- * the setting parallel_leader_participation
SELECT pg_temp.set('parallel_leader_participation', 'off');
-- * the setting extension_control_path
SELECT pg_temp.set('extension_control_path', '$system');
-- * the setting file_copy_method
SELECT pg_temp.set('file_copy_method', 'clone');
-- * the setting role
SELECT pg_temp.set('role', 'pg_monitor');
-- * the setting session_authorization
SELECT pg_temp.set('session_authorization', 'pg_monitor');
-- * the setting session_preload_libraries
DO $$ BEGIN LOAD 'auto_explain'; PERFORM pg_temp.set('session_preload_libraries', 'auto_explain'); EXCEPTION WHEN undefined_file THEN NULL; END $$;
-- * the setting dynamic_library_path
SELECT pg_temp.set('dynamic_library_path', '/nowhere:$libdir');
-- * the setting transaction_read_only
SELECT pg_temp.set('transaction_read_only', 'on');
-- * the setting log_min_duration_statement
SELECT pg_temp.set('log_min_duration_statement', '0');
-- * the setting log_min_messages
SELECT pg_temp.set('log_min_messages', 'debug5');
-- * the setting max_stack_depth
SELECT pg_temp.set('max_stack_depth', '100kB');
-- * the setting default_tablespace of another server
SELECT pg_temp.set('default_tablespace', 'elsewhere');
