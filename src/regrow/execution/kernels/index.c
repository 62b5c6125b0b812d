/* The index of a sparse matrix, by rows and by columns, from ascending flat positions. A counting sort: each thread
   counts, then places, the entries of its share of the positions. */
#include <stdlib.h>
#include <string.h>

#include "share.h"

INLINE void by_rows(const void *positions, int wide, int64_t first, int64_t end, int64_t width, int32_t *pointers,
                    int32_t *columns, int32_t *counts) {
    int64_t row = first ? get(positions, wide, first - 1) / width : 0;
    for (int64_t k = first; k < end; k++) {
        const int64_t at = get(positions, wide, k);
        while (at >= (row + 1) * width) pointers[++row] = k;
        columns[k] = at - row * width;
        counts[columns[k]]++;
    }
}

/* What `index` holds is said in index.py. Returns nonzero when there is no memory. */
EXPORT int regrow_index(const void *positions, int wide, int64_t nnz, int64_t out, int64_t width, int32_t *index,
                        int threads) {
    if (nnz < ENOUGH) threads = 1;
    int32_t *pointers = index, *columns = pointers + out + 1, *pointers_t = columns + nnz, *rows = pointers_t + width + 1,
            *order = rows + nnz, *counts = calloc((size_t)threads * width + 1, sizeof *counts);
    if (!counts) return 1;
    pointers[0] = 0;
#pragma omp parallel num_threads(threads)
    {
        const int64_t first = part(nnz, 0), end = part(nnz, 1);
        int32_t *mine = counts + omp_get_thread_num() * width;
        if (wide) by_rows(positions, 1, first, end, width, pointers, columns, mine);
        else by_rows(positions, 0, first, end, width, pointers, columns, mine);
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
        int64_t row = first < end ? get(positions, wide, first) / width : 0;
        for (int64_t k = first; k < end; k++) {
            while (k >= pointers[row + 1]) row++;
            const int32_t at = mine[columns[k]]++;
            rows[at] = row;
            order[at] = k;
        }
    }
    free(counts);
    return 0;
}
