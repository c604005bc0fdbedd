#!/bin/sh
# PostgreSQL with its memory sized by one variable, at every start. The image's own tuning runs once, when the database is
# made, and is not run again when the variable changes; what is said here goes before it.
set -eu

megabytes=${POSTGRES_MEMORY_MB:?expected the megabytes that PostgreSQL may use, such as 4096}
case $megabytes in
    *[!0-9]*)
        echo "POSTGRES_MEMORY_MB: expected a whole number of megabytes, such as 4096, found $megabytes" >&2
        exit 2
        ;;
esac
if [ "$megabytes" -lt 512 ]; then
    echo "POSTGRES_MEMORY_MB: expected 512 or more, found $megabytes" >&2
    exit 2
fi

at_most() { if [ "$1" -lt "$2" ]; then echo "$1"; else echo "$2"; fi; }
at_least() { if [ "$1" -gt "$2" ]; then echo "$1"; else echo "$2"; fi; }

# A quarter for the server's own cache, since the system's cache holds the files as well; three quarters is what both are
# likely to hold. A sort may take a 256th: some dozens run at once at most. An index or a compressed chunk is made rarely.
exec docker-entrypoint.sh postgres \
    -c "shared_buffers=$((megabytes / 4))MB" \
    -c "effective_cache_size=$((megabytes * 3 / 4))MB" \
    -c "work_mem=$(at_least $((megabytes / 256)) 4)MB" \
    -c "maintenance_work_mem=$(at_most $((megabytes / 16)) 2048)MB" \
    -c "max_connections=${POSTGRES_CONNECTIONS:-200}" \
    -c max_locks_per_transaction=256 \
    -c timescaledb.telemetry_level=off
