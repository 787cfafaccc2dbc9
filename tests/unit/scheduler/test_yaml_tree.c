/* YAML in, tree with places out: printed as JSON, or the errors. */
#include <string.h>

#include "scheduler/yaml_json.h"
#include "scheduler/yaml_tree.h"
#include "tests/unit/unit.h"

static void print_errors(const struct report *report, struct buffer *out)
{
    for (int i = 0; i < report->errors.count; i++)
        buffer_printf(out, "%s%d:%d: %s", i ? "\n" : "", report->errors.items[i].line,
                      report->errors.items[i].column, report->errors.items[i].text);
}

/* The tree as JSON, or what was wrong. */
static void run(const char *text, size_t size, const struct definition_limits *limits,
                struct buffer *out)
{
    struct arena arena = {0};
    struct report report = {.arena = &arena, .file = "a.yml"};
    struct yaml_node *root = yaml_tree_parse(&arena, text, size, limits, &report);
    ck_assert(root || report_error_count(&report) > 0);
    const char *json = root ? yaml_json_text(&arena, root, YAML_JSON_AS_WRITTEN, &report) : NULL;
    report_finish(&report);
    if (report_error_count(&report) > 0)
        print_errors(&report, out);
    else
        buffer_add_text(out, json);
    if (root && report_error_count(&report) == 0)
        ck_assert_int_eq(json_check(json, strlen(json), NULL), 0);
    report_done(&report);
    arena_done(&arena);
}

static const struct row {
    const char *yaml;
    const char *expected; /* JSON, or errors */
} rows[] = {
    {"a: 1", "{\"a\":1}"},
    {"b: [x, {c: y}]\na: {}", "{\"b\":[\"x\",{\"c\":\"y\"}],\"a\":{}}"},
    {"- a\n- - b\n  - c", "[\"a\",[\"b\",\"c\"]]"},
    {"--- just text\n...\n", "\"just text\""},

    /* The core schema. */
    {"[null, Null, NULL, ~, ]", "[null,null,null,null]"},
    {"a:", "{\"a\":null}"},
    {"[true, True, FALSE, tRue]", "[true,true,false,\"tRue\"]"},
    {"[yes, no, on, off, y, n]", "[\"yes\",\"no\",\"on\",\"off\",\"y\",\"n\"]"},
    {"[0, -1, +2, 9007199254740993, 123456789012345678901234567890]",
     "[0,-1,2,9007199254740993,123456789012345678901234567890]"},
    {"[0x1F, 0o17, 0xffffffffffffffff]", "[31,15,18446744073709551615]"},
    {"[1.0, 1., .5, -.5, +1.50, 1e3, 1E-3, 12.5e+2]", "[1.0,1.0,0.5,-0.5,1.50,1e3,1E-3,12.5e+2]"},
    {"[1_000, 1:30, 1.2.3, ., -, +, e3, 0b1, 0x, 0o8, 12h]",
     "[\"1_000\",\"1:30\",\"1.2.3\",\".\",\"-\",\"+\",\"e3\",\"0b1\",\"0x\",\"0o8\",\"12h\"]"},
    {"[2026-01-02, 2026-01-02T03:04:05Z]", "[\"2026-01-02\",\"2026-01-02T03:04:05Z\"]"},
    {"['1', \"true\", '', \"a\\nb\\u00e9\"]", "[\"1\",\"true\",\"\",\"a\\nb\xc3\xa9\"]"},
    {"a: |\n  x\n  y\nb: >-\n  x\n  y", "{\"a\":\"x\\ny\\n\",\"b\":\"x y\"}"},
    {"{1: a, true: b, '': c}", "{\"1\":\"a\",\"true\":\"b\",\"\":\"c\"}"},
    {"[!!str 5, !!int \"5\", !!float 5, !!null '', !!bool 'true', ! '5', !!seq [], !!map {}]",
     "[\"5\",5,5,null,true,\"5\",[],{}]"},
    {"a: [.inf]", "1:5: JSON has no number '.inf': leave it out or quote it"},
    {"a: .NaN", "1:4: JSON has no number '.NaN': leave it out or quote it"},
    {"a: 0x1ffffffffffffffff", "1:4: '0x1ffffffffffffffff' does not fit in 64 bits"},
    {"a: -007", "1:4: '-007' begins with a zero, which some read as octal: quote it, or write it "
                "without the zero"},

    /* Anchors, aliases, merge keys. */
    {"a: &x [1, 2]\nb: *x\nc: [*x]", "{\"a\":[1,2],\"b\":[1,2],\"c\":[[1,2]]}"},
    {"a: &x 1\nb: &x 2\nc: *x", "{\"a\":1,\"b\":2,\"c\":2}"},
    {"a: &x {k: 1, l: 2}\nb: {<<: *x, l: 3}", "{\"a\":{\"k\":1,\"l\":2},\"b\":{\"l\":3,\"k\":1}}"},
    {"b: {l: 3, <<: {l: 1, m: 2}}", "{\"b\":{\"l\":3,\"m\":2}}"},
    {"<<: [{a: 1, b: 1}, {b: 2, c: 2}]", "{\"a\":1,\"b\":1,\"c\":2}"},
    {"a: &x {<<: {k: 1}}\nb: {<<: *x}", "{\"a\":{\"k\":1},\"b\":{\"k\":1}}"},
    {"'<<': 1", "{\"<<\":1}"},
    {"<<: [{a: 1}, 2]", "1:14: '<<' takes a mapping or a list of mappings, not a number"},
    {"<<: x", "1:5: '<<' takes a mapping or a list of mappings, not text"},
    {"<<: {a: 1}\n<<: {b: 1}", "2:1: duplicate key '<<': it stands in line 1, column 1 already"},
    {"a: *x", "1:4: unknown alias '*x': expected an anchor '&x' before it"},
    {"a: &x [*x]", "1:8: alias '*x' stands inside its own anchor (line 1)"},
    {"a: &x {b: {c: *x}}", "1:15: alias '*x' stands inside its own anchor (line 1)"},
    {"&x a: {*x : 1}", "{\"a\":{\"a\":1}}"},

    /* What is wrong, and where. */
    {"a: 1\nb:\n  c: 2\n  d: 3\n  c: 4\na: 5",
     "5:3: duplicate key 'c': it stands in line 3, column 3 already\n"
     "6:1: duplicate key 'a': it stands in line 1, column 1 already"},
    {"'1': a\n1: b", "2:1: duplicate key '1': it stands in line 1, column 1 already"},
    {"\xc3\xa9\xc3\xa9: !x 1", "1:5: unknown tag '!x': expected none"},
    {"a: !!set {b}", "1:4: unknown tag 'tag:yaml.org,2002:set': expected none"},
    {"a: !!seq {b: 1}", "1:4: unknown tag 'tag:yaml.org,2002:seq': expected none"},
    {"a: !!int x", "1:4: 'x' is not of the type that '!!int' says"},
    {"? [a]\n: 1", "1:3: a key is a list: expected text"},
    {"a: 1\n---\nb: 2", "2:1: a second document begins here: expected one document a file"},
    {"", "1:1: the file is empty: expected a mapping"},
    {"# only a comment\n", "1:1: the file is empty: expected a mapping"},
    {"a: \"x\\0y\"", "1:4: a NUL character: expected text without one"},
    {"a: [1, 2",
     "2:1: not valid YAML: while parsing a flow sequence, did not find expected ',' or ']'"},
    {"a: 1\n b: 2", "2:3: not valid YAML: mapping values are not allowed in this context"},
    {"a: * * * * *",
     "1:5: not valid YAML: while scanning an alias, did not find expected alphabetic "
     "or numeric character (a text that begins with '*', as crontabs do, needs quotes)"},
    {"a: 1\nb: \xff", "2:4: not valid YAML: invalid leading UTF-8 octet"},
    {"a: \"\\ud800\"", "1:7: not valid YAML: while parsing a quoted scalar, found invalid Unicode "
                       "character escape code"},
};

START_TEST(trees)
{
    const struct row *row = &rows[_i];
    struct buffer out = {0};
    run(row->yaml, strlen(row->yaml), &definition_limits_default, &out);
    ck_assert_msg(strcmp(buffer_text(&out), row->expected) == 0, "%s\n     got: %s\nexpected: %s",
                  row->yaml, buffer_text(&out), row->expected);
    buffer_done(&out);
}
END_TEST

static const struct bound {
    const char *yaml;
    struct definition_limits limits;
    const char *error; /* or NULL */
} bounds[] = {
    {"[[[1]]]", {1000, 1000, 4}, NULL},
    {"[[[[1]]]]", {1000, 1000, 4}, "1:5: nested deeper than 4 levels"},
    {"[&a [[1]], [*a]]", {1000, 1000, 5}, NULL},
    {"[&a [[1]], [*a]]", {1000, 1000, 4}, "1:13: nested deeper than 4 levels"},
    {"[1, 2, 3]", {1000, 4, 4}, NULL},
    {"[1, 2, 3]",
     {1000, 3, 4},
     "1:8: more than 3 nodes in the file (aliases count as what they stand for)"},
    {"[&a [1], *a]", {1000, 5, 4}, NULL},
    {"[&a [1], *a]",
     {1000, 4, 4},
     "1:10: more than 4 nodes in the file (aliases count as what they stand for)"},
    {"[&a xxxx, *a]", {1, 1000, 4}, NULL},
    {"[&a xxxx, *a, *a]",
     {1, 1000, 4},
     "1:15: more than 8 bytes of text in the file (aliases count as what they stand for)"},
    /* A thousand million laughs. */
    {"[&a [x,x,x,x,x,x,x,x,x,x], &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a],\n"
     "&c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b], &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c],\n"
     "&e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d], &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]]",
     {100000, 50000, 32},
     "3:14: more than 50000 nodes in the file (aliases count as what they stand for)"},
};

START_TEST(limits)
{
    const struct bound *row = &bounds[_i];
    struct buffer out = {0};
    run(row->yaml, strlen(row->yaml), &row->limits, &out);
    if (row->error)
        ck_assert_str_eq(buffer_text(&out), row->error);
    else
        ck_assert_msg(out.data[0] == '[', "%s: %s", row->yaml, buffer_text(&out));
    buffer_done(&out);
}
END_TEST

/* Every node knows where it was written. */
START_TEST(places)
{
    static const char text[] = "a: x\nb:\n  - c: |\n      z\n    d: *\n";
    struct arena arena = {0};
    struct report report = {.arena = &arena, .file = "a.yml"};
    struct yaml_node *root =
        yaml_tree_parse(&arena, text, sizeof text - 9, &definition_limits_default, &report);
    ck_assert(root && report_error_count(&report) == 0);
    const struct yaml_node *list = yaml_member(root, "b");
    const struct yaml_node *item = list->items[0];
    ck_assert_int_eq(yaml_member(root, "a")->column, 4);
    ck_assert_int_eq(yaml_member_key(root, "b")->line, 2);
    ck_assert_int_eq(list->line, 3);
    ck_assert_int_eq(list->column, 3);
    ck_assert_int_eq(item->column, 5);
    ck_assert_int_eq(yaml_member(item, "c")->column, 8);
    ck_assert_ptr_null(yaml_member(root, "c"));
    ck_assert_ptr_null(yaml_member(list, "c"));
    report_done(&report);
    arena_done(&arena);
}
END_TEST

START_TEST(sorted_json)
{
    static const char text[] = "b: {z: 1, A: [{y: 1, x: 2}]}\na: 0";
    struct arena arena = {0};
    struct report report = {.arena = &arena, .file = "a.yml"};
    struct yaml_node *root =
        yaml_tree_parse(&arena, text, sizeof text - 1, &definition_limits_default, &report);
    ck_assert_str_eq(yaml_json_text(&arena, root, YAML_JSON_SORTED, &report),
                     "{\"a\":0,\"b\":{\"A\":[{\"x\":2,\"y\":1}],\"z\":1}}");
    report_done(&report);
    arena_done(&arena);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("yaml_tree");
    TCase *tests = tcase_create("yaml_tree");
    tcase_add_loop_test(tests, trees, 0, sizeof rows / sizeof *rows);
    tcase_add_loop_test(tests, limits, 0, sizeof bounds / sizeof *bounds);
    tcase_add_test(tests, places);
    tcase_add_test(tests, sorted_json);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
