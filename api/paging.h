/* `page` and `per_page`, as every list has them. */
#pragma once

#include <stdbool.h>

#include "api/http_request.h"

/* Director allows any number; beyond this one reply would take a second of everybody's time. */
#define PAGING_MAX_PER_PAGE 10000

struct paging {
    int64_t page;
    int64_t limit;
    int64_t offset;
};

/* `per_page` is what holds when the request does not say. -EINVAL with the text for a 400. */
int paging_read(const struct http_request *request, int per_page, struct paging *paging,
                struct error *error);
/* Is there no such page? `count` is what it has; page 1 of nothing is an empty list. */
bool paging_is_past_end(const struct paging *paging, int64_t count);
/* Replies 404 then. */
void paging_refuse(struct http_request *request, const struct paging *paging);
