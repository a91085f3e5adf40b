#include "jpeg_eighth.h"

#include "jpeg_segments.h"

#include <string.h>

/* ---- blocks ---------------------------------------------------------------------------------- */

/* Returns the value, limited to 0 to 255. */
static uint8_t level(int64_t value) { return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value); }

/* How much the lowest cosine counts in the mean of a block's half, and of its quarter, where the
 * constant counts 1: 0.906, and 0.906 squared. The higher cosines count a third of it or less and
 * are left out. */
#define HALF 928 /* in 1/1024 */
#define QUARTER 841

/* Reads a block of component `c` and writes its samples to `to`, whose rows are `stride` bytes
 * apart. Returns false if the data is broken. */
static bool read_block(fl_cursor *cursor, fl_eighth_component *c, uint8_t *to, size_t stride) {
    if (!fl_read_dc(cursor, c->dc, &c->constant))
        return false;
    /* The missing bits were cut off, not rounded: on average, half of their range is missing. */
    const int32_t twice = 2 * (int16_t)(c->constant << c->shift) + (1 << c->shift) - 1;
    const int64_t constant = (int64_t)twice * c->quanta[0] / 2;
    to[0] = level(((constant + 4) >> 3) + 128);
    if (c->columns == 1 && c->rows == 1)
        return !c->ac || fl_skip_ac(cursor, c->ac, 1);

    int32_t k[5] = {0}; /* in zigzag order */
    const uint32_t wanted = c->rows == 1 ? 2 : c->columns == 1 ? 3 : 5;
    if (c->ac && !fl_read_ac(cursor, c->ac, wanted, k))
        return false;
    if (c->columns == 1)
        k[1] = 0; /* read only on the way to k[2] */
    const int64_t x = (int64_t)k[1] * c->quanta[1] * HALF;
    const int64_t y = (int64_t)k[2] * c->quanta[8] * HALF;
    const int64_t xy = (int64_t)k[4] * c->quanta[9] * QUARTER;
    const int64_t center = (constant + 1024 + 4) * 1024;
    to[0] = level((center + x + y + xy) >> 13);
    if (c->columns == 2)
        to[1] = level((center - x + y - xy) >> 13);
    if (c->rows == 2)
        to[stride] = level((center + x - y - xy) >> 13);
    if (c->columns == 2 && c->rows == 2)
        to[stride + 1] = level((center - x - y + xy) >> 13);
    return true;
}

/* ---- tables ---------------------------------------------------------------------------------- */

enum { DC, AC };

/* Sets a table from the counts and symbols of a DHT segment, which are borrowed; `size` is the
 * bytes of the symbols. */
static void define(fl_eighth_table *t, const uint8_t *counts, const uint8_t *symbols, size_t size) {
    t->counts = counts;
    t->symbols = symbols;
    t->size = size;
    t->is_set = false;
}

/* Returns the table of a kind and number, built if necessary; NULL if there is no valid one. */
static const fl_huffman *table(fl_eighth *e, int kind, uint32_t number) {
    fl_eighth_table *t = &e->tables[kind][number];
    if (!t->counts)
        return NULL;
    if (!t->is_set) {
        if (!fl_huffman_set(&t->huffman, t->counts, t->symbols, t->size))
            return NULL;
        uint32_t codes = 0;
        for (int i = 0; i < FL_CODE_BITS; i++)
            codes += t->counts[i];
        for (uint32_t i = 0; kind == DC && i < codes; i++)
            if (t->symbols[i] > 15)
                return NULL;
        if (kind == AC)
            fl_huffman_set_several(&t->huffman);
        t->is_set = true;
    }
    return &t->huffman;
}

/* Takes the tables of a DHT segment (figure B.7), which may have several. Returns false if it is
 * broken. */
static bool define_tables(fl_eighth *e, const uint8_t *contents, size_t size) {
    while (size >= 1 + FL_CODE_BITS) {
        const uint32_t kind = contents[0] >> 4, number = contents[0] & 15;
        const uint8_t *counts = contents + 1, *symbols = counts + FL_CODE_BITS;
        size -= 1 + FL_CODE_BITS;
        size_t used = 0;
        for (int i = 0; i < FL_CODE_BITS; i++)
            used += counts[i];
        if (kind > AC || number >= FL_EIGHTH_TABLES || used > size)
            return false;
        define(&e->tables[kind][number], counts, symbols, used);
        contents = symbols + used;
        size -= used;
    }
    return size == 0;
}

/* ---- scans ----------------------------------------------------------------------------------- */

typedef struct {
    fl_eighth_component *component[FL_EIGHTH_COMPONENTS];
    uint32_t dc[FL_EIGHTH_COMPONENTS], ac[FL_EIGHTH_COMPONENTS]; /* the numbers of their tables */
    uint32_t count;
    uint32_t first, last, high, low; /* which coefficients, and which of their bits */
} scan;

/* Reads the header of a scan (figure B.3). Returns false if it is broken, or names components that
 * the image does not have. */
static bool set_scan(fl_eighth *e, scan *s, const uint8_t *contents, size_t size) {
    s->count = size > 0 ? contents[0] : 0;
    if (s->count < 1 || s->count > e->components || size != 4 + 2 * (size_t)s->count)
        return false;
    const uint8_t *end = contents + 1 + 2 * s->count;
    s->first = end[0];
    s->last = end[1];
    s->high = end[2] >> 4;
    s->low = end[2] & 15;
    for (uint32_t i = 0; i < s->count; i++) {
        const uint32_t id = contents[1 + 2 * i];
        fl_eighth_component *c = e->component;
        while (c < e->component + e->components && c->id != id)
            c++;
        if (c == e->component + e->components)
            return false;
        for (uint32_t j = 0; j < i; j++)
            if (s->component[j] == c)
                return false;
        s->component[i] = c;
        s->dc[i] = contents[2 + 2 * i] >> 4;
        s->ac[i] = contents[2 + 2 * i] & 15;
        if (s->dc[i] >= FL_EIGHTH_TABLES || s->ac[i] >= FL_EIGHTH_TABLES)
            return false;
    }
    return true;
}

/* With more than one bit left out, the error would be visible: it is half of their range. */
#define MOST_SHIFT 1

/* Prepares the components of a scan that has their constant coefficients: all of the scan's data in
 * a baseline image, all bits but MOST_SHIFT in a progressive one. Returns false if the scan is
 * another one, or its components have been read already. */
static bool prepare_scan(fl_eighth *e, const scan *s) {
    if (e->progressive ? s->last != 0 || s->low > MOST_SHIFT
                       : s->last != DCTSIZE2 - 1 || s->low != 0)
        return false;
    uint32_t blocks = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        fl_eighth_component *c = s->component[i];
        if (c->read)
            return false;
        c->dc = table(e, DC, s->dc[i]);
        c->ac = e->progressive ? NULL : table(e, AC, s->ac[i]);
        if (!c->dc || (!c->ac && !e->progressive))
            return false;
        c->shift = s->low;
        c->constant = 0;
        c->read = true;
        blocks += c->across * c->down;
    }
    e->to_read -= s->count;
    return s->count == 1 || blocks <= FL_MCU_BLOCKS;
}

/* Starts the interval behind restart number `number`; the markers count from 0 to 7. Skips what is
 * left of the interval before it, as libjpeg does. Returns false if there is no such marker. */
static bool restart(fl_bits *b, const scan *s, uint32_t number) {
    if (!b->ended || b->end - b->next < 2 || b->next[1] != (FL_JPEG_RST0 | (number & 7)))
        return false;
    b->next += 2;
    fl_bits_start(b);
    for (uint32_t i = 0; i < s->count; i++)
        s->component[i]->constant = 0;
    return true;
}

/* Reads the blocks (v, h) of MCU (y, x). The MCU of a single component is one block (A.2.2).
 * Returns false if the data is broken or ends. */
static bool read_mcu(fl_eighth *e, const scan *s, size_t y, size_t x) {
    fl_bits_fill(&e->bits);
    fl_cursor cursor = e->bits.cursor;
    for (uint32_t i = 0; i < s->count; i++) {
        fl_eighth_component *c = s->component[i];
        const uint32_t across = s->count > 1 ? c->across : 1, down = s->count > 1 ? c->down : 1;
        for (uint32_t v = 0; v < down; v++)
            for (uint32_t h = 0; h < across; h++) {
                const size_t row = (y * down + v) * c->rows, column = (x * across + h) * c->columns;
                if (!read_block(&cursor, c, c->samples + row * e->stride + column, e->stride))
                    return false;
            }
    }
    e->bits.cursor = cursor;
    return !fl_bits_overdrawn(&e->bits);
}

/* Reads the entropy-coded data of a prepared scan, down to row `bottom` of the reduced image.
 * Returns false if it is broken or ends. */
static bool read_scan(fl_eighth *e, const scan *s, const uint8_t *data, const uint8_t *end,
                      uint32_t bottom) {
    const fl_eighth_component *c = s->component[0];
    const uint32_t columns = c->columns * (s->count > 1 ? c->across : 1);
    const uint32_t rows = c->rows * (s->count > 1 ? c->down : 1);
    const size_t mcus = (e->width + columns * DCTSIZE - 1) / (columns * DCTSIZE);
    const size_t mcu_rows = (bottom + rows - 1) / rows;
    e->bits.next = data;
    e->bits.end = end;
    fl_bits_start(&e->bits);
    uint32_t restarts = 0, left = e->interval;
    for (size_t y = 0; y < mcu_rows; y++)
        for (size_t x = 0; x < mcus; x++) {
            if (e->interval && left-- == 0) {
                if (!restart(&e->bits, s, restarts++))
                    return false;
                left = e->interval - 1;
            }
            if (!read_mcu(e, s, y, x))
                return false;
        }
    return true;
}

/* ---- the image ----------------------------------------------------------------------------- */

/* Takes what libjpeg has read of the headers, and reserves the samples down to row `bottom`.
 * Returns false if the image is of another kind than is read here, or without memory. */
static bool set_header(fl_eighth *e, const struct jpeg_decompress_struct *cinfo, uint32_t bottom) {
    const int count = cinfo->num_components;
    const bool gray = count == 1 && cinfo->jpeg_color_space == JCS_GRAYSCALE;
    const bool color = count == 3 && cinfo->jpeg_color_space == JCS_YCbCr;
    if (!(gray || color) || cinfo->arith_code || cinfo->data_precision != 8)
        return false;
    const uint32_t most_across = (uint32_t)cinfo->max_h_samp_factor;
    const uint32_t most_down = (uint32_t)cinfo->max_v_samp_factor;
    e->progressive = cinfo->progressive_mode;
    e->width = cinfo->image_width;
    e->interval = cinfo->restart_interval;
    e->components = e->to_read = (uint32_t)count;
    e->stride = (e->width + DCTSIZE * most_across - 1) / (DCTSIZE * most_across) * most_across;
    const size_t samples = e->stride * ((bottom + most_down - 1) / most_down * most_down);
    if (!fl_memory_reserve(&e->samples, samples * e->components))
        return false;
    for (int i = 0; i < count; i++) {
        const jpeg_component_info *info = &cinfo->comp_info[i];
        const uint32_t across = (uint32_t)info->h_samp_factor, down = (uint32_t)info->v_samp_factor;
        const uint32_t columns = most_across / across, rows = most_down / down;
        if (info->quant_tbl_no < 0 || info->quant_tbl_no >= NUM_QUANT_TBLS ||
            !cinfo->quant_tbl_ptrs[info->quant_tbl_no] || columns > 2 || rows > 2 ||
            columns * across != most_across || rows * down != most_down)
            return false;
        e->component[i] = (fl_eighth_component){
            .id = (uint32_t)info->component_id,
            .across = across,
            .down = down,
            .columns = columns,
            .rows = rows,
            .quanta = cinfo->quant_tbl_ptrs[info->quant_tbl_no]->quantval,
            .samples = e->samples.bytes + (size_t)i * samples,
        };
    }
    for (uint32_t i = 0; i < FL_EIGHTH_TABLES; i++) {
        const JHUFF_TBL *dc = cinfo->dc_huff_tbl_ptrs[i], *ac = cinfo->ac_huff_tbl_ptrs[i];
        define(&e->tables[DC][i], dc ? dc->bits + 1 : NULL, dc ? dc->huffval : NULL, 256);
        define(&e->tables[AC][i], ac ? ac->bits + 1 : NULL, ac ? ac->huffval : NULL, 256);
    }
    return true;
}

bool fl_eighth_read(fl_eighth *e, const struct jpeg_decompress_struct *cinfo, const uint8_t *blob,
                    size_t size, uint32_t bottom) {
    if (!set_header(e, cinfo, bottom))
        return false;
    /* jpeg_read_header() stopped behind the first SOS segment, which has 8 bytes and 2 for each
     * component. Go back to its start. */
    const size_t behind = cinfo->src->bytes_in_buffer + 8 + 2 * (size_t)cinfo->comps_in_scan;
    size_t at = behind <= size ? size - behind : size;
    while (e->to_read > 0) {
        if (size - at < 2 || blob[at] != 0xFF || blob[at + 1] == FL_JPEG_EOI)
            return false;
        const uint8_t code = blob[at + 1];
        if (code == 0xFF) { /* a fill byte */
            at++;
            continue;
        }
        const size_t bytes = fl_jpeg_segment_bytes(blob, size, at);
        if (bytes == 0)
            return false;
        const uint8_t *contents = blob + at + 4;
        at += bytes;
        if (code == FL_JPEG_SOS) {
            scan s;
            if (!set_scan(e, &s, contents, bytes - 4))
                return false;
            const bool constants = s.first == 0 && s.high == 0;
            const bool others = e->progressive && s.first > 0;
            if (constants
                    ? !prepare_scan(e, &s) || !read_scan(e, &s, blob + at, blob + size, bottom)
                    : !others) /* for example, more bits of a constant, which are needed */
                return false;
            if (e->to_read > 0)
                at = fl_jpeg_scan_end(blob, size, at);
        } else if (code == FL_JPEG_DHT) {
            if (!define_tables(e, contents, bytes - 4))
                return false;
        } else if (code == FL_JPEG_DRI && bytes == 6) {
            e->interval = (uint32_t)contents[0] << 8 | contents[1];
        } else if (code != FL_JPEG_COM && (code & 0xF0) != FL_JPEG_APP0) {
            return false;
        }
    }
    return true;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Writes columns left to right - 1 of row y to `row`, as luma. */
static void write_luma(const fl_eighth *e, uint32_t y, uint32_t left, uint32_t right,
                       uint8_t *row) {
    memcpy(row, e->component[0].samples + y * e->stride + left, right - left);
}

/* Writes columns left to right - 1 of row y to `row`, four bytes for each pixel: JFIF's equations,
 * as libjpeg rounds them. */
static void write_rgbx(const fl_eighth *e, uint32_t y, uint32_t left, uint32_t right,
                       uint8_t *row) {
    const uint8_t *luma = e->component[0].samples + y * e->stride;
    if (e->components == 1) {
        for (uint32_t x = left; x < right; x++, row += 4)
            memset(row, luma[x], 4); /* the fourth byte is arbitrary */
        return;
    }
    const uint8_t *cb = e->component[1].samples + y * e->stride;
    const uint8_t *cr = e->component[2].samples + y * e->stride;
    for (uint32_t x = left; x < right; x++, row += 4) {
        const int32_t l = luma[x], b = cb[x] - 128, r = cr[x] - 128;
        row[0] = level(l + ((91881 * r + 32768) >> 16));
        row[1] = level(l + ((-22554 * b - 46802 * r + 32768) >> 16));
        row[2] = level(l + ((116130 * b + 32768) >> 16));
        row[3] = 255;
    }
}

/* Building the tables takes 70 us. libjpeg decodes this many pixels of a baseline image in that
 * time. */
#define WORTH_ITS_TABLES ((uint64_t)1 << 16)

fl_status fl_eighth_decode(fl_eighth *e, const struct jpeg_decompress_struct *cinfo,
                           const uint8_t *blob, size_t size, const fl_view *view, fl_sink *sink,
                           void *output) {
    if (!cinfo->progressive_mode &&
        (uint64_t)cinfo->image_width * cinfo->image_height < WORTH_ITS_TABLES)
        return FL_UNSUPPORTED;
    const uint32_t height = (cinfo->image_height + DCTSIZE - 1) / DCTSIZE;
    const uint32_t width = (cinfo->image_width + DCTSIZE - 1) / DCTSIZE;
    fl_status status = fl_sink_begin(sink, view, height, width, output);
    if (status != FL_OK)
        return status;
    const fl_region needed = sink->needed;
    if (!fl_eighth_read(e, cinfo, blob, size, needed.bottom))
        return FL_UNSUPPORTED;
    status = fl_sink_open(sink, needed.left, needed.right);
    if (status != FL_OK)
        return status;
    const bool luma = sink->options->channels == 1;
    for (uint32_t y = needed.top; !fl_sink_done(sink);) {
        uint8_t *rows[FL_SINK_ROWS];
        const uint32_t wanted = fl_sink_rows(sink, rows);
        for (uint32_t i = 0; i < wanted; i++, y++)
            (luma ? write_luma : write_rgbx)(e, y, needed.left, needed.right, rows[i]);
        fl_sink_push(sink, wanted);
    }
    return FL_OK;
}
