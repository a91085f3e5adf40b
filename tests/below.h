/* Random numbers that are the same in every run: xorshift64*, Marsaglia and Vigna. */
#include <stdint.h>

static uint64_t state = 1;

/* Returns a number from 0 to limit - 1. */
static uint32_t below(uint32_t limit) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 0x2545F4914F6CDD1D) >> 32) % limit;
}
