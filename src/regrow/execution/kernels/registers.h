/* How the lanes that registers hold are cut into tiles. */
#define TILE 8                     /* vectors in a tile */
#define HELD (VW == 16 ? 8 : 4)    /* vectors in a tile when two tiles share the registers */
/* Sums kept apart, where a tile has too few vectors to hide the latency of a multiply-add. */
#define CHAINS(R) (R > 4 ? 1 : R > 1 ? 2 : 4)
