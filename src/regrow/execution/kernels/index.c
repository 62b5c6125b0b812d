/* The index of a sparse matrix, by rows and by columns, from ascending flat positions. A counting sort: each thread
   counts, then places, the entries of its share of the positions. */
#include <stdlib.h>
#include <string.h>

#include "share.h"

#define AHEAD 16    /* entries: the next cache line of a column is on its way while this one fills */

INLINE void by_rows(const void *positions, int wide, int64_t first, int64_t end, int64_t width, int32_t *pointers,
                    int narrow, void *columns, int32_t *counts) {
    int64_t row = first ? get(positions, wide, first - 1) / width : 0;
    for (int64_t k = first; k < end; k++) {
        const int64_t at = get(positions, wide, k);
        while (at >= (row + 1) * width) pointers[++row] = k;
        const int32_t column = at - row * width;
        if (narrow) ((uint16_t *)columns)[k] = column;
        else ((int32_t *)columns)[k] = column;
        counts[column]++;
    }
}

/* Each entry goes to where its column's next one is: its row and its number, in one word if narrow. */
INLINE void by_columns(const int32_t *pointers, int64_t row, int64_t first, int64_t end, int narrow, const void *columns,
                       int32_t *next, int32_t *rows, int32_t *order) {
    for (int64_t k = first; k < end; row++)
        for (const int64_t stop = pointers[row + 1] < end ? pointers[row + 1] : end; k < stop; k++) {
            const int32_t at = next[narrow ? ((const uint16_t *)columns)[k] : ((const int32_t *)columns)[k]]++;
            __builtin_prefetch(rows + at + AHEAD, 1);
            if (narrow) ((uint32_t *)rows)[at] = (uint32_t)row << 16 | (uint32_t)(k - pointers[row]);
            else {
                rows[at] = row;
                order[at] = k;
            }
        }
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
            for (int64_t c = 0; c < width; c++) {    /* a count becomes the place of the thread's first entry */
                pointers_t[c] = total;
                for (int t = 0; t < omp_get_num_threads(); t++) {
                    const int32_t here = counts[t * width + c];
                    counts[t * width + c] = total;
                    total += here;
                }
            }
            pointers_t[width] = nnz;
        }
        const int64_t row = first < end ? get(positions, wide, first) / width : 0;
        if (narrow) by_columns(pointers, row, first, end, 1, columns, mine, rows, 0);
        else by_columns(pointers, row, first, end, 0, columns, mine, rows, order);
    }
    free(counts);
    return 0;
}
