/* The entries of a dense weight gradient that might grow. It is formed a few rows at a time and never written out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "outer.h"
#include "share.h"

#define BLOCK 65536    /* entries that exist at a time, for each thread */

/* The gradient g x^T [rows][width]; the positions that exist, ascending. */
typedef struct {
    const float *g, *panels;
    int64_t width, n;
    const void *active;
    int64_t count;
    int wide;
    float bound;
} gradient;

/* Where a thread puts what it has found, while there is room; `found` goes on counting. */
typedef struct {
    void *at;
    float *size;
    int64_t room, found;
} list;

INLINE int64_t panels_of(int64_t width) { return (width + PANEL - 1) / PANEL; }

/* to [n][PANEL] = x [features][n], filled up with zeros. */
static void pack(const float *x, int64_t features, int64_t n, float *to) {
    for (int64_t k = 0; k < n; k++)
        for (int64_t c = 0; c < PANEL; c++) to[k * PANEL + c] = c < features ? x[c * n + k] : 0;
}

/* Of row `row`, what is in `columns` (`some`) and not active; `low` is the first active position not passed yet. */
INLINE void pick(const gradient *w, int wide, int64_t row, const float *values, const int32_t *columns, int64_t some,
                 int64_t *low, list *to) {
    for (int64_t i = 0; i < some;) {
        const int64_t here = row * w->width + columns[i], other = *low < w->count ? get(w->active, wide, *low) : INT64_MAX;
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

static int find(const gradient *w, const outer *with, int64_t first, int64_t last, list *to) {
    const int64_t panels = panels_of(w->width), apart = panels * PANEL, most = apart < BLOCK ? BLOCK / apart : 1;
    float *block = regrow_scratch((most + 2) * apart * sizeof *block);
    if (!block) return 1;
    int32_t *columns = (int32_t *)(block + most * apart);
    int64_t low = below(w->active, w->wide, w->count, first * w->width);
    for (int64_t row = first; row < last; row += most) {
        const int64_t here = last - row < most ? last - row : most;
        with->rows(w->g + row * w->n, here, w->n, w->panels, panels, block);
        for (int64_t r = 0; r < here; r++) {
            const float *values = block + r * apart;
            const int64_t some = with->above(values, w->width, w->bound, columns);
            if (w->wide) pick(w, 1, row + r, values, columns, some, &low, to);
            else pick(w, 0, row + r, values, columns, some, &low, to);
        }
    }
    return 0;
}

/* The inactive entries of g x^T whose size (0 for a NaN) is above the bound, from g [rows][n] and x [width][n], in lanes:
   `at`, of the type of `active`, and `size` begin with them if they fit the room. Returns how many they are; more than
   the room: how much they take; -1: there is no memory. */
EXPORT int64_t regrow_rivals(const float *g, int64_t rows, const float *x, int64_t width, int64_t n, const void *active,
                             int64_t count, int wide, float bound, void *at, float *size, int64_t room, int threads) {
    float *panels = aligned_alloc(LINE, lines(panels_of(width) * PANEL * n * sizeof *panels + 1));
    const gradient w = {g, panels, width, n, active, count, wide, bound};
    const int64_t each = wide ? 8 : 4;
    int64_t total = 0, needed = 0;
    int failed = !panels;
#pragma omp parallel num_threads(rows * width < ENOUGH || failed ? 1 : threads)
    if (!failed) {
        const int64_t all = omp_get_num_threads(), begin = part(room, 0);
        list mine = {(char *)at + begin * each, size + begin, part(room, 1) - begin, 0};
        for (int64_t p = part(panels_of(width), 0); p < part(panels_of(width), 1); p++)
            pack(x + p * PANEL * n, width - p * PANEL, n, panels + p * PANEL * n);
#pragma omp barrier
        const int lost = find(&w, regrow_outer(), part(rows, 0), part(rows, 1), &mine);
        IN_TURN {
            failed |= lost;
            if (needed < (mine.found + 1) * all) needed = (mine.found + 1) * all;
            if (mine.found <= mine.room) {
                memmove((char *)at + total * each, mine.at, mine.found * each);
                memmove(size + total, mine.size, mine.found * sizeof *size);
            }
            total += mine.found;
            if (mine.found > mine.room) total += room;
        }
    }
    free(panels);
    return failed ? -1 : total > room ? needed : total;
}
