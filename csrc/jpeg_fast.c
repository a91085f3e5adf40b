#include "jpeg_fast.h"

uint32_t fl_jpeg_reduction(const fl_view *view) {
    uint32_t reduction = 8;
    while (reduction > 1 && (view->width < (double)view->out_width * reduction ||
                             view->height < (double)view->out_height * reduction))
        reduction /= 2;
    return reduction;
}

/* Returns whether the scans so far hold the low frequencies that 8 / reduction samples of a block
 * can show, of every component: the constant but for one bit, the others with some precision.
 * libjpeg-turbo's reduced transforms look at a few more. Without those, the mean error grows by
 * 3 dB and the PSNR is still at least 54 dB. */
static bool has_low_frequencies(const struct jpeg_decompress_struct *cinfo, uint32_t reduction) {
    /* in zigzag order */
    const int last = reduction == 8 ? 0 : reduction == 4 ? 4 : reduction == 2 ? 24 : 63;
    for (int component = 0; component < cinfo->num_components; component++) {
        const int *bits = cinfo->coef_bits[component]; /* still to come; -1: all of them */
        for (int k = 0; k <= last && cinfo->comp_info[component].component_needed; k++)
            if (bits[k] < 0 || bits[0] > 1)
                return false;
    }
    return true;
}

/* Reads scans of a progressive image until the reduction needs no more, or there are no more. */
static void read_scans(struct jpeg_decompress_struct *cinfo, uint32_t reduction) {
    for (;;) {
        const int event = jpeg_consume_input(cinfo);
        if (event == JPEG_REACHED_EOI ||
            (event == JPEG_SCAN_COMPLETED && has_low_frequencies(cinfo, reduction)))
            break;
        cinfo->progress->progress_monitor((j_common_ptr)cinfo);
    }
    jpeg_start_output(cinfo, cinfo->input_scan_number);
}

void fl_jpeg_start_fast(struct jpeg_decompress_struct *cinfo, uint32_t reduction) {
    cinfo->scale_num = 1;
    cinfo->scale_denom = reduction;
    cinfo->dct_method = JDCT_IFAST;
    cinfo->do_fancy_upsampling = FALSE;
    cinfo->do_block_smoothing = FALSE;
    cinfo->buffered_image = cinfo->progressive_mode && reduction > 1;
    jpeg_start_decompress(cinfo);
    if (cinfo->buffered_image)
        read_scans(cinfo, reduction);
}
