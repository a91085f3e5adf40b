/* Runs the body of the fuzzers without a fuzzer: every file as it is, and a number of mutations of
 * the files, reproducibly. Prints the number of inputs.
 *
 * driver MUTATIONS SEED FILE...
 *
 * After every second mutation, the checksums of a PNG are corrected. A fuzzer would take ages to
 * find them, and the code behind their check would not run. */
#include "../tests/below.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHOICES 8
#define LARGEST (256u << 10) /* bytes of a file that are used; more only costs time */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    uint8_t *bytes; /* CHOICES bytes, then the file */
    size_t size;
} input;

/* Returns the CRC-32 that PNG uses. */
static uint32_t crc32_of(const uint8_t *bytes, size_t size) {
    uint32_t crc = 0xFFFFFFFF;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
    }
    return ~crc;
}

/* Corrects the checksums of all whole chunks, if the blob is a PNG. */
static void correct_checksums(uint8_t *blob, size_t size) {
    if (size < 8 || memcmp(blob, "\x89PNG", 4) != 0)
        return;
    size_t at = 8;
    while (size - at >= 12) {
        const size_t length = (size_t)blob[at] << 24 | (size_t)blob[at + 1] << 16 |
                              (size_t)blob[at + 2] << 8 | blob[at + 3];
        if (length > size - at - 12)
            return;
        const uint32_t crc = crc32_of(blob + at + 4, length + 4);
        for (int i = 0; i < 4; i++)
            blob[at + 8 + length + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += 12 + length;
    }
}

/* Reads a file behind random choices. The caller frees `bytes`, which is NULL if that fails. */
static input read_file(const char *path) {
    input in = {NULL, 0};
    FILE *file = fopen(path, "rb");
    if (!file)
        return in;
    in.bytes = malloc(CHOICES + LARGEST);
    if (in.bytes) {
        in.size = CHOICES + fread(in.bytes + CHOICES, 1, LARGEST, file);
        for (int i = 0; i < CHOICES; i++)
            in.bytes[i] = (uint8_t)below(256);
    }
    fclose(file);
    return in;
}

/* Runs one random mutation of the input, made in `scratch`. Returns the number of runs. */
static size_t run_mutation(const input *in, uint8_t *scratch) {
    size_t size = in->size;
    memcpy(scratch, in->bytes, size);
    for (int i = 0; i < CHOICES; i++)
        scratch[i] = (uint8_t)below(256);
    for (uint32_t n = 1 + below(4); n > 0 && size > CHOICES + 1; n--) {
        const size_t at = CHOICES + below((uint32_t)(size - CHOICES));
        size_t length = 1 + below(20);
        if (length > size - at)
            length = size - at;
        switch (below(5)) {
        case 0:
            scratch[at] = (uint8_t)below(256);
            break;
        case 1:
            scratch[at] ^= (uint8_t)(1u << below(8));
            break;
        case 2:
            size = below(8) ? size : at; /* the blob ends early */
            break;
        case 3:
            memmove(scratch + at, scratch + at + length, size - at - length);
            size -= length;
            break;
        default:
            memmove(scratch + at + length, scratch + at, size - at);
            size += length;
            break;
        }
    }
    if (below(2))
        correct_checksums(scratch + CHOICES, size - CHOICES);
    LLVMFuzzerTestOneInput(scratch, size);
    return 1;
}

int main(int count, char **arguments) {
    if (count < 4) {
        fprintf(stderr, "usage: %s MUTATIONS SEED FILE...\n", arguments[0]);
        return 2;
    }
    const long mutations = strtol(arguments[1], NULL, 10);
    state = (uint64_t)strtoull(arguments[2], NULL, 10) * 2 + 1;
    const size_t files = (size_t)count - 3;
    input *inputs = calloc(files, sizeof *inputs);
    uint8_t *scratch = malloc(CHOICES + LARGEST + 4 * 20);
    if (!inputs || !scratch)
        return 1;
    size_t runs = 0;
    for (size_t i = 0; i < files; i++) {
        inputs[i] = read_file(arguments[3 + i]);
        if (inputs[i].bytes) {
            LLVMFuzzerTestOneInput(inputs[i].bytes, inputs[i].size);
            runs++;
        }
    }
    for (long m = 0; m < mutations; m++) {
        const input *in = &inputs[below((uint32_t)files)];
        if (in->bytes)
            runs += run_mutation(in, scratch);
    }
    for (size_t i = 0; i < files; i++)
        free(inputs[i].bytes);
    free(inputs);
    free(scratch);
    printf("%zu inputs\n", runs);
    return 0;
}
