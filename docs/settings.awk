# Makes docs/settings.md (-v format=markdown) and systemd/directord.conf (-v format=conf) of `directord --help`.

function finish()
{
    if (name == "")
        return
    if (format == "conf") {
        gsub(/\n/, "\n# ", text)
        printf "\n# %s\n#%s=%s\n", text, name, initial
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
