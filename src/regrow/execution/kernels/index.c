/* The index of a sparse matrix, by rows and by columns, from ascending flat positions. Counting sorts. */
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* positions: int64 if `wide`, else int32. What `index` holds is said in index.py. */
EXPORT void regrow_index(const void *positions, int wide, int64_t nnz, int64_t out, int64_t width, int32_t *index) {
    int32_t *pointers = index, *columns = pointers + out + 1, *pointers_t = columns + nnz, *rows = pointers_t + width + 1,
            *order = rows + nnz;
    int64_t row = 0;
    pointers[0] = 0;
    memset(pointers_t, 0, (width + 1) * sizeof *pointers_t);
    for (int64_t k = 0; k < nnz; k++) {
        const int64_t at = wide ? ((const int64_t *)positions)[k] : ((const int32_t *)positions)[k];
        while (at >= (row + 1) * width) pointers[++row] = k;
        columns[k] = at - row * width;
        pointers_t[columns[k] + 1]++;
    }
    while (row < out) pointers[++row] = nnz;
    for (int64_t c = 0; c < width; c++) pointers_t[c + 1] += pointers_t[c];
    for (row = 0; row < out; row++)
        for (int32_t k = pointers[row]; k < pointers[row + 1]; k++) {
            const int32_t at = pointers_t[columns[k]]++;    /* runs on to the next column's start ... */
            rows[at] = row;
            order[at] = k;
        }
    memmove(pointers_t + 1, pointers_t, width * sizeof *pointers_t);    /* ... and is moved back */
    pointers_t[0] = 0;
}
