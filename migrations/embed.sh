#!/bin/sh
# Writes the migrations named on the command line (migrations/NNNN_name.sql, ascending) as a C source with the list that
# store/migration_list.h declares.
set -eu

printf '#include <stddef.h>\n\n#include "store/migration_list.h"\n\nconst struct migration migrations[] = {\n'
last=0
for file in "$@"; do
    base=$(basename "$file" .sql)
    case $base in
    [0-9][0-9][0-9][0-9]_[a-z]*) ;;
    *)
        echo "$file: expected NNNN_name.sql" >&2
        exit 1
        ;;
    esac
    number=$((1${base%%_*} - 10000)) # without the zeros, which would make it octal
    if [ "$number" -le "$last" ]; then
        echo "$file: number $number does not follow $last" >&2
        exit 1
    fi
    last=$number
    printf '    {%s, "%s",\n' "$number" "${base#*_}"
    # One string literal a line; `?` is escaped because of trigraphs.
    sed -e 's/[\\"?]/\\&/g' -e 's/	/\\t/g' -e 's/^.*$/     "&\\n"/' "$file"
    printf '    },\n'
done
printf '    {0, NULL, NULL},\n};\n'
