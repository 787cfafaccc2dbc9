/* Put before every source that clang-tidy reads. It sees one file at a time, so it must be told
 * what a function of another file promises. */
#pragma once

#include "base/error.h"

/* Returns its code, which is never 0. */
#define error_set(error, code, ...) (error_set(error, code, __VA_ARGS__), (code))
