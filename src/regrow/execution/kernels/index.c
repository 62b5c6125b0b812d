/* The index of a sparse matrix, by rows and by columns, from ascending flat positions. A counting sort: each thread
   counts the entries of its share of the positions, then places those of its share of the columns. */
#include <stdlib.h>
#include <string.h>

#include "share.h"

#define AHEAD 16    /* entries: the next cache line of a column is on its way while this one fills */

INLINE void by_rows(const void *positions, int wide, int64_t first, int64_t end, int64_t width, int32_t *pointers,
                    int narrow, void *columns, int32_t *counts) {
    int64_t row = first ? get(positions, wide, first - 1) / width : 0, begin = row * width;
    for (int64_t k = first; k < end; k++) {
        const int64_t at = get(positions, wide, k);
        for (; at >= begin + width; begin += width) pointers[++row] = k;
        const int32_t column = at - begin;
        if (narrow) ((uint16_t *)columns)[k] = column;
        else ((int32_t *)columns)[k] = column;
        counts[column]++;
    }
}

INLINE int32_t column(const void *columns, int narrow, int64_t k) {
    return narrow ? ((const uint16_t *)columns)[k] : ((const int32_t *)columns)[k];
}

/* The first of the entries from k to end, of one row, that is not left of this column. */
INLINE int64_t from_column(const void *columns, int narrow, int64_t k, int64_t end, int32_t left) {
    while (k < end) {
        const int64_t middle = (k + end) / 2;
        if (column(columns, narrow, middle) < left) k = middle + 1;
        else end = middle;
    }
    return k;
}

/* Each entry of the columns from `left` to `right` goes to where its column's next one is: its row and its number, in
   one word if narrow. */
INLINE void by_columns(const int32_t *pointers, int64_t out, int32_t left, int32_t right, int narrow, const void *columns,
                       int32_t *next, int32_t *rows, int32_t *order) {
    for (int64_t row = 0; row < out; row++) {
        const int64_t begin = pointers[row], end = pointers[row + 1];
        int64_t k = left ? from_column(columns, narrow, begin, end, left) : begin;
        for (int32_t here; k < end && (here = column(columns, narrow, k)) < right; k++) {
            const int32_t at = next[here]++;
            __builtin_prefetch(rows + at + AHEAD, 1);
            if (narrow) ((uint32_t *)rows)[at] = (uint32_t)row << 16 | (uint32_t)(k - begin);
            else {
                rows[at] = row;
                order[at] = k;
            }
        }
    }
}

/* The first column that is not of the first `share` of `shares` equal parts of the entries. */
static int32_t cut(const int32_t *pointers, int64_t width, int64_t share, int64_t shares) {
    if (share == shares) return width;
    return below(pointers, 0, width, pointers[width] * share / shares);
}

/* What `index` holds is said in index.py. Returns nonzero when there is no memory. */
EXPORT int regrow_index(const void *positions, int wide, int64_t nnz, int64_t out, int64_t width, int narrow,
                        int32_t *index, int threads) {
    if (nnz < ENOUGH) threads = 1;
    int32_t *pointers = index, *columns = pointers + out + 1, *pointers_t = narrow ? columns : columns + nnz,
            *rows = pointers_t + width + 1, *order = rows + nnz,
            *counts = calloc((size_t)threads * width + 1, sizeof *counts);
    if (narrow) columns = order;
    if (!counts) return 1;
    pointers[0] = 0;
#pragma omp parallel num_threads(threads)
    {
        const int64_t first = part(nnz, 0), end = part(nnz, 1);
        int32_t *mine = counts + omp_get_thread_num() * width;
        if (wide) by_rows(positions, 1, first, end, width, pointers, narrow, columns, mine);
        else if (narrow) by_rows(positions, 0, first, end, width, pointers, 1, columns, mine);
        else by_rows(positions, 0, first, end, width, pointers, 0, columns, mine);
#pragma omp barrier
#pragma omp single
        {
            int64_t last = nnz ? get(positions, wide, nnz - 1) / width : 0, total = 0;
            while (last < out) pointers[++last] = nnz;
            for (int64_t c = 0; c < width; c++) {    /* the first thread's count becomes the place of the first entry */
                pointers_t[c] = total;
                for (int t = 0; t < omp_get_num_threads(); t++) total += counts[t * width + c];
                counts[c] = pointers_t[c];
            }
            pointers_t[width] = nnz;
        }
        const int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
        const int32_t left = cut(pointers_t, width, me, all), right = cut(pointers_t, width, me + 1, all);
        if (narrow) by_columns(pointers, out, left, right, 1, columns, counts, rows, 0);
        else by_columns(pointers, out, left, right, 0, columns, counts, rows, order);
    }
    free(counts);
    return 0;
}
