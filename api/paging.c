#include "api/paging.h"

#include "api/reply.h"

int paging_read(const struct http_request *request, int per_page, struct paging *paging,
                struct error *error)
{
    paging->page = 1;
    paging->limit = per_page;
    int code = query_int(&request->query, "page", 1, INT64_MAX / PAGING_MAX_PER_PAGE, &paging->page,
                         error);
    if (code == 0)
        code =
            query_int(&request->query, "per_page", 0, PAGING_MAX_PER_PAGE, &paging->limit, error);
    paging->offset = (paging->page - 1) * paging->limit;
    return code;
}

bool paging_is_past_end(const struct paging *paging, int64_t count)
{
    return count == 0 && paging->page > 1;
}

void paging_refuse(struct http_request *request, const struct paging *paging)
{
    reply_error(request, 404, "page %lld is past the end", (long long)paging->page);
}
