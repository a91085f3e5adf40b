/* Within entropy-coded data, libjpeg does not move past any marker but the restart that is due. All
 * blocks behind another marker are gray.
 *
 * Other damage shows in an invalid code, or in a marker before the last block. Of 297 photographs
 * with 512 random bytes in their scan, 274 show it. The others have all their blocks, some of them
 * wrong, and bytes left over, as some intact photographs have too. */
#include "jpeg_damage.h"

#include "jpeg_segments.h"

#include <string.h>

#include <jerror.h>

void fl_jpeg_damage_start(fl_jpeg_damage *d, size_t size) {
    memset(d, 0, sizeof *d);
    d->size = size;
}

/* Notes whether enough data came to show the image. This is about the whole image, not a crop: it
 * must not depend on the draw. */
static void note_what_came(fl_jpeg_damage *d, const struct jpeg_decompress_struct *cinfo) {
    d->displayable = cinfo->input_scan_number > 1 || cinfo->input_iMCU_row > 0;
}

/* Notes the first damage, at a marker, or at an invalid code if `marker` is 0. */
static void find(fl_jpeg_damage *d, const struct jpeg_decompress_struct *cinfo, int marker) {
    if (d->found)
        return;
    d->found = true;
    d->marker = marker;
    d->at = d->exhausted ? d->size : d->size - cinfo->src->bytes_in_buffer;
    /* libjpeg reads ahead and may be past the marker already. */
    const JOCTET *next = cinfo->src->next_input_byte;
    if (!d->exhausted && marker && d->at >= 2 && next[-2] == 0xFF && next[-1] == marker)
        d->at -= 2;
    note_what_came(d, cinfo);
}

/* Notes that no more data comes, and from where on the image is gray. */
static void starve(fl_jpeg_damage *d, const struct jpeg_decompress_struct *cinfo) {
    find(d, cinfo, cinfo->unread_marker);
    if (d->starved)
        return;
    d->starved = true;
    d->gray_from = cinfo->input_iMCU_row + 2; /* the next row has neighbors with colors */
}

static bool is_restart(int marker) { return (marker & 0xF8) == FL_JPEG_RST0; }

/* Returns whether more data may come behind the marker. With restart intervals, libjpeg looks for
 * the next one behind restarts and behind invalid markers. Each interval may be 65,535 MCUs and
 * takes only two bytes, so a blob that makes up more blocks than it could hold, at two bits or more
 * for each, is at its end. */
static bool may_resume(fl_jpeg_damage *d, const struct jpeg_decompress_struct *cinfo) {
    const int marker = cinfo->unread_marker;
    d->made_up += (uint64_t)cinfo->restart_interval * (uint64_t)cinfo->blocks_in_MCU;
    return cinfo->restart_interval > 0 && (is_restart(marker) || marker < FL_JPEG_SOF0) &&
           d->made_up / 4 <= d->size;
}

void fl_jpeg_damage_warned(fl_jpeg_damage *d, const struct jpeg_decompress_struct *cinfo) {
    switch (cinfo->err->msg_code) {
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
        find(d, cinfo, 0);
        break;
    case JWRN_HIT_MARKER:
    case JWRN_MUST_RESYNC:
        find(d, cinfo, cinfo->unread_marker);
        if (!may_resume(d, cinfo))
            starve(d, cinfo);
        break;
    default: /* about headers, or about surplus bytes */
        break;
    }
}

void fl_jpeg_damage_exhausted(fl_jpeg_damage *d, const struct jpeg_decompress_struct *cinfo) {
    if (!d->exhausted && !d->found)
        note_what_came(d, cinfo);
    d->exhausted = true;
    if (cinfo->arith_code)
        starve(d, cinfo);
}

/* The segments of the next scan, or the end of the image, may follow long before the last block is
 * written. */
void fl_jpeg_damage_look(fl_jpeg_damage *d, const struct jpeg_decompress_struct *cinfo) {
    const int marker = cinfo->unread_marker;
    if (!cinfo->arith_code || marker == 0)
        return;
    const bool fits = is_restart(marker) ? cinfo->restart_interval > 0
                                         : marker == FL_JPEG_DHT || marker == FL_JPEG_DAC ||
                                               (marker >= FL_JPEG_EOI && marker < FL_JPEG_JPG0) ||
                                               marker == FL_JPEG_COM;
    if (!fits)
        starve(d, cinfo);
}

void fl_jpeg_damage_message(const fl_jpeg_damage *d, char message[FL_MESSAGE_BYTES]) {
    if (!d->found || d->at >= d->size)
        snprintf(message, FL_MESSAGE_BYTES, "the blob of %zu bytes ends before the image does",
                 d->size);
    else if (d->marker == 0)
        snprintf(message, FL_MESSAGE_BYTES, "its data is damaged near byte %zu of %zu", d->at,
                 d->size);
    else
        snprintf(message, FL_MESSAGE_BYTES,
                 "its data breaks off at a marker, ff %02x, near byte %zu of %zu",
                 (unsigned)d->marker, d->at, d->size);
}
