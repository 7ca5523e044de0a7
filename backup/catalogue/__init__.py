"""What is in the store: names, manifests, records, and the reader that every other part uses.

The bucket is the database. A backup exists from the moment its manifest is written (:mod:`backup.catalogue.commit`)
until the moment the manifest is deleted.
"""
