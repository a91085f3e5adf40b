/* ISA-L inflates a Kodak picture (641 kB to 1.2 MB) in 2.9 ms on Zen 4, 32 KiB at a time or all at
 * once. zlib 1.2.13 takes 7.0. libdeflate 1.14 takes 3.0, but knows only whole streams: all of the
 * filtered picture in memory, nothing of a truncated one, and no stopping where a crop ends.
 *
 * ISA-L takes Huffman codes that leave bits unused, as long as none of those turns up; zlib does
 * not. Compile with FL_ZLIB where there is no ISA-L: the pixels are the same. */
#include "inflate.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#ifdef FL_ZLIB
#include <zlib.h>
#else
#include <isa-l.h>
#endif

/* What the two bytes before the deflate stream look like: RFC 1950. */
#define HEADER_BYTES 2

struct fl_inflate {
#ifdef FL_ZLIB
    z_stream stream;
#else
    struct inflate_state stream;
#endif
    uint8_t header[HEADER_BYTES];
    size_t header_bytes; /* that came */
    bool broken;         /* what is sound has yet to be handed out */
};

/* Neither library takes more than 2^32 - 1 bytes at once. */
#define SLICE ((size_t)1 << 30)

#ifdef FL_ZLIB

const char fl_inflate_library[] = "zlib " ZLIB_VERSION;

fl_inflate *fl_inflate_new(void) {
    fl_inflate *state = calloc(1, sizeof *state);
    if (state && inflateInit2(&state->stream, -MAX_WBITS) != Z_OK) {
        free(state);
        state = NULL;
    }
    return state;
}

void fl_inflate_free(fl_inflate *state) {
    if (state)
        inflateEnd(&state->stream);
    free(state);
}

static void restart(fl_inflate *state) { inflateReset(&state->stream); }

static fl_inflate_status step(fl_inflate *state) {
    /* zlib calls it a buffer error where it could do nothing for lack of input. */
    const int result = inflate(&state->stream, Z_SYNC_FLUSH);
    if (result == Z_STREAM_END)
        return FL_INFLATE_END;
    return result == Z_OK || result == Z_BUF_ERROR ? FL_INFLATE_FULL : FL_INFLATE_BAD;
}

uint32_t fl_crc32(uint32_t crc, const uint8_t *bytes, size_t size) {
    return (uint32_t)crc32_z(crc, bytes, size);
}

#else

#define QUOTE(x) #x
#define STRING(x) QUOTE(x)
#define VERSION(major, minor, patch) STRING(major) "." STRING(minor) "." STRING(patch)
const char fl_inflate_library[] =
    "ISA-L " VERSION(ISAL_MAJOR_VERSION, ISAL_MINOR_VERSION, ISAL_PATCH_VERSION);

fl_inflate *fl_inflate_new(void) { return calloc(1, sizeof(fl_inflate)); }

void fl_inflate_free(fl_inflate *state) { free(state); }

/* A code with gaps finds in them what the code before has left in ISA-L's tables. Of the same stream
 * that may be; of another one it would make a broken picture depend on who was decoded before it.
 * 22 KiB: less than 1 us. */
static void restart(fl_inflate *state) {
    isal_inflate_init(&state->stream);
    memset(&state->stream.lit_huff_code, 0, sizeof state->stream.lit_huff_code);
    memset(&state->stream.dist_huff_code, 0, sizeof state->stream.dist_huff_code);
}

static fl_inflate_status step(fl_inflate *state) {
    struct inflate_state *stream = &state->stream;
    /* It reads ahead by up to 96 KiB. What it has when it finds the stream broken is still given
     * out, as zlib does, so that damage behind a picture's last row does not count. */
    if (isal_inflate(stream) != ISAL_DECOMP_OK) {
        state->broken = true;
        stream->block_state = ISAL_BLOCK_INPUT_DONE;
        return FL_INFLATE_FULL;
    }
    /* A distance is held against this count, which would come round to 0 after 4 GiB. */
    if (stream->total_out >= (uint32_t)1 << 31)
        stream->total_out -= (uint32_t)1 << 30;
    if (stream->block_state != ISAL_BLOCK_FINISH)
        return FL_INFLATE_FULL;
    return state->broken ? FL_INFLATE_BAD : FL_INFLATE_END;
}

uint32_t fl_crc32(uint32_t crc, const uint8_t *bytes, size_t size) {
    return crc32_gzip_refl(crc, bytes, size);
}

#endif

void fl_inflate_start(fl_inflate *state) {
    restart(state);
    state->header_bytes = 0;
    state->broken = false;
    fl_inflate_feed(state, NULL, 0);
}

void fl_inflate_feed(fl_inflate *state, const uint8_t *piece, size_t size) {
    while (size > 0 && state->header_bytes < HEADER_BYTES) {
        state->header[state->header_bytes++] = *piece++;
        size--;
    }
    /* Both libraries only read here; neither says so in its types. */
    state->stream.next_in = (uint8_t *)(uintptr_t)piece;
    state->stream.avail_in = (uint32_t)size;
}

/* A deflate stream without a preset dictionary. Its window may be larger than the header says: some
 * "optimisers" write it too small, and nothing is lost by allowing all of 32 KiB. */
static bool header_is_sound(const uint8_t header[HEADER_BYTES]) {
    return (header[0] & 0x0F) == 8 && header[0] >> 4 <= 7 && (header[1] & 0x20) == 0 &&
           (header[0] << 8 | header[1]) % 31 == 0;
}

fl_inflate_status fl_inflate_read(fl_inflate *state, uint8_t *to, size_t size, size_t *got) {
    if (state->header_bytes < HEADER_BYTES)
        return FL_INFLATE_HUNGRY;
    if (!header_is_sound(state->header))
        return FL_INFLATE_BAD;
    fl_inflate_status status = FL_INFLATE_FULL;
    while (status == FL_INFLATE_FULL && size > 0) {
        const uint32_t slice = (uint32_t)(size < SLICE ? size : SLICE);
        const uint32_t before = state->stream.avail_in;
        state->stream.next_out = to;
        state->stream.avail_out = slice;
        status = step(state);
        const uint32_t written = slice - state->stream.avail_out;
        to += written;
        size -= written;
        *got += written;
        if (status == FL_INFLATE_FULL && size > 0) {
            if (state->stream.avail_in == 0 && written < slice)
                status = FL_INFLATE_HUNGRY;
            else if (written == 0 && state->stream.avail_in == before)
                status = FL_INFLATE_BAD; /* and would be for ever */
        }
    }
    return size == 0 ? FL_INFLATE_FULL : status;
}
