# Makes docs/settings.md (-v format=markdown), docs/directord.conf.5 (-v format=man) and systemd/directord.conf
# (-v format=conf) of `directord --help`.

function finish()
{
    if (name == "")
        return
    if (format == "conf") {
        gsub(/\n/, "\n# ", text)
        printf "\n# %s\n#%s=%s\n", text, name, initial
    } else if (format == "man") {
        gsub(/-/, "\\-", initial)
        gsub(/-/, "\\-", text)
        printf ".TP\n.B %s=%s\n%s\n", name, initial, text
    } else {
        gsub(/\n/, " ", text)
        gsub(/\|/, "\\|", text)
        printf "| `%s` | %s | %s |\n", name, initial == "" ? "" : "`" initial "`", text
    }
    name = ""
}

BEGIN {
    if (format == "conf") {
        print "# Settings of directord: NAME=value lines, with the defaults in comments. The environment wins over this"
        print "# file. Most changes need a restart; those marked so are taken by a reload."
    } else if (format == "man") {
        print ".\\\" Generated: make docs"
        print ".TH DIRECTORD.CONF 5 \"\" directord \"File formats\""
        print ".SH NAME\ndirectord.conf \\- settings of directord"
        print ".SH DESCRIPTION\nLines of the form"
        print ".IR NAME = value ,"
        print "as in an environment file of"
        print ".BR systemd.exec (5),"
        print "and comments that begin with #."
        print ".BR directord (8)"
        print "reads the file of its option"
        print ".BR \\-\\-config ;"
        print "a variable of the same name in the environment wins over it."
        print "An unknown name or a bad value ends the start."
        print ".SH SETTINGS"
    } else {
        print "# Settings"
        print ""
        print "Every setting with its default, as `directord --help` lists them; [configuration.md](configuration.md) says how"
        print "they are given. This file is generated: `make docs`."
        print ""
        print "| name | default | meaning |"
        print "| --- | --- | --- |"
    }
}

/^DIRECTOR_/ {
    finish()
    name = initial = $0
    sub(/=.*/, "", name)
    sub(/[^=]*=/, "", initial)
    text = ""
}

/^    / && name != "" {
    sub(/^ */, "")
    text = text (text == "" ? "" : "\n") $0
}

END { finish() }
