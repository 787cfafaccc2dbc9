#!/bin/sh
# Which folder may include which, and which files may reach a library or a system call that has only one door. Names
# file:line of each breach. Unit tests keep to the rules of their folder; fuzzers and benchmarks are free.
set -eu

awk '
BEGIN {
    may["base"] = "base"
    may["store"] = "base store"
    may["executor"] = "base executor"
    may["scheduler"] = "base executor store scheduler"
    may["api"] = "base store scheduler api"
    may["daemon"] = "base executor store scheduler api daemon"

    door["<libpq-fe.h>"] = "^store/"
    door["<llhttp.h>"] = "^api/http_"
    door["<yaml.h>"] = "^scheduler/yaml_"
    door["<uuid/uuid.h>"] = "^base/"
    door["<systemd/sd-daemon.h>"] = "^daemon/"
    processes = "^executor/|^daemon/command[.]c$"
}

FNR == 1 {
    place = FILENAME
    is_test = sub("^tests/unit/", "", place)
    folder = place
    sub("/.*", "", folder)
}

function breach(text)
{
    print FILENAME ":" FNR ": " text
    breaches++
}

/^#include "/ {
    target = $2
    gsub("\"", "", target)
    other = target
    sub("/.*", "", other)
    if (target !~ "/")
        breach("include \"folder/noun.h\", not " $2)
    else if (!(other == "tests" && is_test) && index(" " may[folder] " ", " " other " ") == 0)
        breach(folder "/ may not include " other "/")
}

/^#include </ && $2 in door && place !~ door[$2] {
    breach($2 " is only for files that match " door[$2])
}

!is_test && place !~ processes &&
/(^|[^a-z_])(v?fork|clone3?|posix_spawnp?|exec[lv][pe]*|popen|system|uv_spawn)\(/ {
    breach("processes are made in executor/ and daemon/command.c")
}

END { exit breaches > 0 }
' base/*.[ch] store/*.[ch] executor/*.[ch] scheduler/*.[ch] api/*.[ch] daemon/*.[ch] tests/unit/*/*.[ch]
