#!/bin/sh
# What has no place in the tree: notes to oneself, assertions that cannot fail, paths that exist on one machine only.
# Names file:line of each.
set -eu

status=0

# complain WHAT PATTERN FILES...: grep, with what is wrong about a hit before it.
complain()
{
    what=$1 pattern=$2
    shift 2
    if grep -nIE -e "$pattern" "$@" /dev/null; then
        echo "^ $what" >&2
        status=1
    fi
}

# Everything but what is built and what a run leaves behind.
tree=$(find . \( -name .git -o -name .state -o -name __pycache__ -o -path './build*' \) -prune -o -type f -print)
code=$(echo "$tree" | grep -E '[.](c|h|sql|py|sh|awk)$|/Makefile$')
tests=$(echo "$code" | grep '^./tests/')

# Names in this tree have no blanks.
# shellcheck disable=SC2086
{
    complain 'left to do: do it, or file an issue' '[T]ODO|[F]IXME|[H]ACK' $code
    complain 'an assertion that cannot fail' 'ck_assert(_int_ne)? *\( *(1|true) *\)|assert True *$' $tests
    complain 'a path of one machine' '/(home|Users|work|builds)/[a-z]' $tree
}
exit $status
