-- Takes from PUBLIC what a read-only role needs for nothing, and makes a role for sandboxd to connect as.
--
-- Run it as a superuser in the database that sandboxes are to read:
--
--     psql -v role=sandboxd_reader -v schema=public -d shop -f harden_postgres.sql
--
-- Then set the role's password (\password sandboxd_reader) and name it in the server's settings. Running it again
-- changes nothing. It acts on PUBLIC: other roles of this database that rely on the functions below need grants.

-- The role ----------------------------------------------------------------------------------------

SELECT format('CREATE ROLE %I LOGIN', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec

ALTER ROLE :"role" NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 32;
ALTER ROLE :"role" SET default_transaction_read_only = on;
ALTER ROLE :"role" SET statement_timeout = '60s';
ALTER ROLE :"role" SET idle_in_transaction_session_timeout = '90s';
ALTER ROLE :"role" SET lock_timeout = '2s';
-- What a query may spill to disk; a sort or a series without end stops here.
ALTER ROLE :"role" SET temp_file_limit = '256MB';

GRANT USAGE ON SCHEMA :"schema" TO :"role";
GRANT SELECT ON ALL TABLES IN SCHEMA :"schema" TO :"role";

-- Nobody makes objects by default -----------------------------------------------------------------

REVOKE CREATE ON SCHEMA :"schema" FROM PUBLIC;
SELECT format('REVOKE TEMPORARY, CREATE ON DATABASE %I FROM PUBLIC', current_database()) \gexec

-- Functions with effects that a READ ONLY transaction does not stop, or that show what others do ---

SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', p.oid::regprocedure)
FROM pg_proc p
WHERE p.pronamespace = 'pg_catalog'::regnamespace
  AND p.proname <> 'pg_advisory_unlock_all'  -- the session is scrubbed with it
  AND (p.proname IN (
          'pg_sleep', 'pg_sleep_for', 'pg_sleep_until', 'pg_notify', 'pg_terminate_backend', 'pg_cancel_backend',
          'pg_export_snapshot', 'pg_logical_emit_message', 'pg_current_xact_id', 'txid_current', 'pg_stat_get_activity',
          'pg_stat_get_backend_activity', 'pg_stat_get_progress_info', 'pg_lock_status', 'pg_prepared_statement',
          'pg_cursor', 'pg_listening_channels', 'loread', 'lowrite', 'query_to_xml', 'query_to_xmlschema',
          'query_to_xml_and_xmlschema', 'inet_client_addr', 'inet_server_addr', 'pg_get_functiondef', 'pg_stat_file')
       OR p.proname ~ '^(pg_(try_)?advisory_(xact_)?lock|lo_|(database|schema|table|cursor)_to_xml|pg_ls_|pg_read_)')
\gexec

REVOKE SELECT ON pg_stat_activity, pg_settings, pg_file_settings, pg_hba_file_rules, pg_stat_ssl, pg_stat_replication,
    pg_locks, pg_prepared_statements, pg_cursors, pg_stats FROM PUBLIC;
