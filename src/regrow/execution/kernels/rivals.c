#include "rivals.h"

#include <math.h>
#include <string.h>

#include "kernels.h"
#include "outer.h"
#include "share.h"

#define BLOCK 65536    /* entries that exist at a time, for each thread */

/* What is sought: the positions that exist, ascending, and the size that others must exceed. */
typedef struct {
    const dense *of;
    const void *active;
    int64_t count;
    int wide;
    float bound;
} search;

/* Where a thread puts what it has found, while there is room; `found` goes on counting. */
typedef struct {
    void *at;
    float *size;
    int64_t room, found;
} list;

/* Of row `row`, what is in `columns` (`some`) and not active; `low` is the first active position not passed yet. */
INLINE void pick(const search *w, int wide, int64_t row, const float *values, const int32_t *columns, int64_t some,
                 int64_t *low, list *to) {
    for (int64_t i = 0; i < some;) {
        const int64_t here = row * w->of->width + columns[i], other = *low < w->count ? get(w->active, wide, *low) : INT64_MAX;
        const float value = fabsf(values[columns[i]]), size = value == value ? value : 0;
        if (to->found < to->room) {
            put(to->at, wide, to->found, here);
            to->size[to->found] = size;
        }
        to->found += (here < other) & (size > w->bound);
        i += here <= other;
        *low += other < here;
    }
}

static int find(const search *w, int64_t first, int64_t last, list *to) {
    const dense *d = w->of;
    int64_t most = BLOCK / d->pitch / d->step * d->step, low = below(w->active, w->wide, w->count, first * d->width);
    if (most < d->step) most = d->step;
    float *block = regrow_scratch(((most + 1) * d->pitch + PANEL) * sizeof *block);
    if (!block) return 1;
    int32_t *columns = (int32_t *)(block + most * d->pitch);
    for (int64_t row = first; row < last; row += most) {
        const int64_t here = last - row < most ? last - row : most;
        d->form(d, row, here, block);
        for (int64_t r = 0; r < here; r++) {
            const float *values = block + r * d->pitch;
            const int64_t some = regrow_outer()->above(values, d->width, w->bound, columns);
            if (w->wide) pick(w, 1, row + r, values, columns, some, &low, to);
            else pick(w, 0, row + r, values, columns, some, &low, to);
        }
    }
    return 0;
}

int64_t regrow_seek(const dense *d, const void *active, int64_t count, int wide, float bound, void *at, float *size,
                    int64_t room, int threads) {
    const search w = {d, active, count, wide, bound};
    const int64_t each = wide ? 8 : 4;
    int64_t total = 0, needed = 0;
    int failed = 0;
#pragma omp parallel num_threads(d->rows * d->width < ENOUGH ? 1 : threads)
    {
        const int64_t all = omp_get_num_threads(), begin = part(room, 0);
        list mine = {(char *)at + begin * each, size + begin, part(room, 1) - begin, 0};
        d->ready(d);
#pragma omp barrier
        const int lost = find(&w, part(d->rows, 0), part(d->rows, 1), &mine);
        IN_TURN {
            failed |= lost;
            if (needed < (mine.found + 1) * all) needed = (mine.found + 1) * all;
            if (mine.found <= mine.room && total + mine.found <= room) {    /* one before had too many */
                memmove((char *)at + total * each, mine.at, mine.found * each);
                memmove(size + total, mine.size, mine.found * sizeof *size);
            }
            total += mine.found;
            if (mine.found > mine.room) total += room;
        }
    }
    return failed ? -1 : total > room ? needed : total;
}

/* g x^T, from g [rows][n] in lanes and x [width][n], or [n][width] if `turned`; `panels`: room for x as it is read. */
typedef struct {
    dense of;
    const float *g, *x;
    float *panels;
    int64_t n;
    int turned;
} product;

static int64_t panels_of(int64_t width) { return (width + PANEL - 1) / PANEL; }

/* to [n][PANEL] = x [features][n], whose features and lanes are so far apart, filled up with zeros. */
INLINE void pack(const float *x, int64_t features, int64_t n, int64_t feature, int64_t lane, float *to) {
    for (int64_t k = 0; k < n; k++)
        for (int64_t c = 0; c < PANEL; c++) to[k * PANEL + c] = c < features ? x[c * feature + k * lane] : 0;
}

static void ready(const dense *d) {
    const product *p = (const product *)d;
    for (int64_t i = part(panels_of(d->width), 0), n = p->n; i < part(panels_of(d->width), 1); i++) {
        const int64_t left = d->width - i * PANEL;
        float *to = p->panels + i * PANEL * n;
        if (p->turned) pack(p->x + i * PANEL, left, n, 1, d->width, to);
        else pack(p->x + i * PANEL * n, left, n, n, 1, to);
    }
}

static void form(const dense *d, int64_t first, int64_t count, float *to) {
    const product *p = (const product *)d;
    regrow_outer()->rows(p->g + first * p->n, count, p->n, p->panels, panels_of(d->width), to);
}

/* `regrow_seek` in g x^T; works in `panels`, room for x and PANEL features more. */
EXPORT int64_t regrow_rivals(const float *g, int64_t rows, const float *x, int turned, int64_t width, int64_t n,
                             const void *active, int64_t count, int wide, float bound, void *at, float *size,
                             int64_t room, float *panels, int threads) {
    const product p = {{rows, width, panels_of(width) * PANEL, 1, ready, form}, g, x, panels, n, turned};
    return regrow_seek(&p.of, active, count, wide, bound, at, size, room, threads);
}
