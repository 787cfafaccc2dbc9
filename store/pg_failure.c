#include "store/pg_failure.h"

#include <ctype.h>
#include <libpq-fe.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* The first row whose prefix fits decides (Appendix A of PostgreSQL's manual has the codes). */
static const struct {
    const char *prefix;
    enum pg_failure_class class;
} policy[] = {
    {"08", PG_AWAY},     /* connection exceptions */
    {"22", PG_DATA},     /* data exceptions: bytes or numbers that PostgreSQL refuses */
    {"23", PG_DATA},     /* integrity constraints */
    {"54", PG_DATA},     /* program limits: too deep, too large */
    {"25006", PG_AWAY},  /* read-only: this server has become a standby */
    {"25P03", PG_AWAY},  /* idle-in-transaction timeout */
    {"26000", PG_AWAY},  /* the prepared statement is gone: a new connection has it */
    {"40", PG_RETRY},    /* serialization failure, deadlock */
    {"53", PG_RESOURCE}, /* disk full, out of memory, too many connections */
    {"55P03", PG_RETRY}, /* lock timeout */
    {"57014", PG_SLOW},  /* statement timeout (or somebody cancelled it) */
    {"57P", PG_AWAY},    /* shutdown, crash, not yet accepting connections */
    {"58", PG_RESOURCE}, /* errors of the system around PostgreSQL: input/output */
};

static enum pg_failure_class class_of(const char *sqlstate)
{
    for (size_t i = 0; i < sizeof(policy) / sizeof(policy[0]); i++)
        if (strncmp(sqlstate, policy[i].prefix, strlen(policy[i].prefix)) == 0)
            return policy[i].class;
    return PG_BUG;
}

bool pg_failure_is_passing(const struct pg_failure *failure)
{
    return failure->class == PG_AWAY || failure->class == PG_RETRY ||
           failure->class == PG_RESOURCE || failure->class == PG_SLOW;
}

const char *pg_failure_class_name(enum pg_failure_class class)
{
    static const char *const names[] = {
        [PG_DATA] = "data", [PG_RETRY] = "retry", [PG_RESOURCE] = "resource",
        [PG_SLOW] = "slow", [PG_AWAY] = "away",   [PG_BUG] = "bug",
    };
    return names[class];
}

void pg_failure_set(struct pg_failure *failure, enum pg_failure_class class, const char *format,
                    ...)
{
    va_list args;
    va_start(args, format);
    *failure = (struct pg_failure){.class = class};
    vsnprintf(failure->text, sizeof(failure->text), format, args);
    va_end(args);
}

void pg_failure_wrap(struct pg_failure *failure, const char *prefix)
{
    char *text = mem_format("%s: %s", prefix, failure->text);
    snprintf(failure->text, sizeof(failure->text), "%s", text);
    free(text);
}

/* Appends `text` in one line: libpq's messages may have several and end with a newline. */
static void add_line(struct pg_failure *failure, const char *text)
{
    size_t n = strlen(failure->text);
    for (; *text != '\0' && n < sizeof(failure->text) - 1; text++) {
        bool blank = isspace((unsigned char)*text);
        if (!blank)
            failure->text[n++] = *text;
        else if (n > 0 && failure->text[n - 1] != ' ')
            failure->text[n++] = ' ';
    }
    while (n > 0 && failure->text[n - 1] == ' ')
        n--;
    /* A cut may have gone through a character. */
    while (*text != '\0' && n > 0 && (failure->text[n - 1] & 0x80) != 0)
        n--;
    failure->text[n] = '\0';
}

static void add_field(struct pg_failure *failure, const char *text)
{
    if (text == NULL)
        return;
    if (failure->text[0] != '\0')
        add_line(failure, "; ");
    add_line(failure, text);
}

static bool ends_session(const struct pg_result *result)
{
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    return severity != NULL && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0);
}

/* A migration changed what a prepared statement returns ("cached plan must not change result
 * type"): its code 0A000 is shared with other errors, the function that raises it is not. */
static bool plan_is_stale(const struct pg_result *result, const char *sqlstate)
{
    const char *function = PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION);
    return strcmp(sqlstate, "0A000") == 0 && function != NULL &&
           strcmp(function, "RevalidateCachedQuery") == 0;
}

void pg_failure_of_result(struct pg_failure *failure, const struct pg_result *result)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    *failure = (struct pg_failure){.class = PG_AWAY};
    if (sqlstate == NULL) { /* libpq's own: the connection broke */
        add_line(failure, PQresultErrorMessage(result));
        return;
    }
    snprintf(failure->sqlstate, sizeof(failure->sqlstate), "%s", sqlstate);
    if (!ends_session(result) && !plan_is_stale(result, sqlstate))
        failure->class = class_of(sqlstate);
    add_field(failure, PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
    add_field(failure, PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL));
    if (failure->class == PG_BUG)
        add_field(failure, PQresultErrorField(result, PG_DIAG_CONTEXT));
}

/* libpq 15 gives no SQLSTATE for a connection that could not be made; verbose messages (see
 * pg_session_open) carry it: `FATAL:  28P01: password authentication failed …`. Returns where it
 * stands, or NULL. */
static char *find_sqlstate(char *message)
{
    char *found = NULL;
    for (char *at = message; (at = strstr(at, ":  ")) != NULL; at++) {
        size_t n = strspn(at + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (n == 5 && strncmp(at + 8, ": ", 2) == 0)
            found = at + 3; /* the last one: of the last host that was tried */
    }
    return found;
}

void pg_failure_of_connection(struct pg_failure *failure, const struct pg_conn *connection)
{
    char *message = mem_text(PQerrorMessage(connection));
    char *sqlstate = find_sqlstate(message);
    char *location = strstr(message, "\nLOCATION:");
    *failure = (struct pg_failure){.class = PG_AWAY};
    if (location != NULL)
        *location = '\0';
    if (sqlstate != NULL) {
        memcpy(failure->sqlstate, sqlstate, 5);
        memmove(sqlstate, sqlstate + 7, strlen(sqlstate + 7) + 1);
        failure->class = class_of(failure->sqlstate);
    }
    add_line(failure, message);
    free(message);
}
