#include "rwm_board.h"

#include <string.h>

static uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] | (uint16_t)p[1] << 8); }

static uint32_t get32(const uint8_t *p) { return get16(p) | (uint32_t)get16(p + 2) << 16; }

static uint8_t *put16(uint8_t *p, uint16_t value) {
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
    return p + 2;
}

static uint8_t *put32(uint8_t *p, uint32_t value) { return put16(put16(p, (uint16_t)value), (uint16_t)(value >> 16)); }

static uint8_t *put_float(uint8_t *p, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return put32(p, bits);
}

static uint8_t *put_floats(uint8_t *p, const float *values, size_t count) {
    for (size_t i = 0; i < count; i++) p = put_float(p, values[i]);
    return p;
}

/* How far `later` is ahead of `earlier` on the 32-bit circle: below 2^31 it is, otherwise it is behind. */
static bool is_ahead(uint32_t later, uint32_t earlier) {
    uint32_t step = later - earlier;
    return step != 0 && step < 0x80000000u;
}

uint32_t rwm_crc32(const uint8_t *bytes, size_t count) {
    static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                       0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                       0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        crc = table[crc & 15u] ^ (crc >> 4);
        crc = table[crc & 15u] ^ (crc >> 4);
    }
    return ~crc;
}

size_t rwm_cobs_encode(const uint8_t *bytes, size_t count, uint8_t *out) {
    size_t code = 0; /* where the distance to the next zero belongs */
    size_t at = 1;
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] == 0) {
            out[code] = (uint8_t)(at - code);
            code = at++;
        } else {
            out[at++] = bytes[i];
        }
    }
    out[code] = (uint8_t)(at - code);
    return at;
}

int rwm_cobs_decode(const uint8_t *bytes, size_t count, uint8_t *out) {
    size_t at = 0;
    size_t i = 0;
    while (i < count) {
        size_t code = bytes[i++];
        if (code == 0 || code - 1 > count - i) return -1;
        for (size_t k = 1; k < code; k++) {
            if (bytes[i] == 0) return -1;
            out[at++] = bytes[i++];
        }
        if (code < 255 && i < count) out[at++] = 0;
    }
    return (int)at;
}

static void send_frame(rwm_board *b, uint8_t type, uint32_t now_us, const uint8_t *payload, size_t count) {
    uint8_t raw[RWM_LARGEST];
    uint8_t out[RWM_MAX_ENCODED + 1];
    raw[0] = RWM_VERSION;
    raw[1] = type;
    put32(put32(put16(raw + 2, b->session), ++b->sent), now_us);
    memcpy(raw + RWM_HEADER, payload, count);
    put32(raw + RWM_HEADER + count, rwm_crc32(raw, RWM_HEADER + count));
    size_t size = rwm_cobs_encode(raw, RWM_HEADER + count + 4, out);
    out[size++] = 0;
    b->config.send(b->config.context, out, size);
}

static void send_info(rwm_board *b, uint32_t request, uint32_t now_us) {
    uint8_t payload[28];
    uint8_t *p = put32(payload, request);
    *p++ = b->config.joints;
    *p++ = b->config.motors;
    *p++ = b->config.mode;
    *p++ = b->config.fields;
    p = put16(put16(p, b->config.watchdog_ms), 0);
    memcpy(p, b->config.hardware_id, 16);
    send_frame(b, RWM_INFO, now_us, payload, sizeof payload);
}

static void send_state(rwm_board *b, uint32_t request, uint32_t now_us, const rwm_reading *r) {
    uint8_t payload[RWM_MAX_PAYLOAD];
    size_t n = b->config.joints;
    uint8_t *p = put32(put32(put32(payload, request), b->executed), r->captured_us);
    p = put16(p, (uint16_t)((b->enabled ? RWM_ENABLED : 0) | (b->tripped ? RWM_WATCHDOG : 0)));
    p = put16(p, r->board_faults);
    p = put_floats(put_floats(put_floats(p, r->position, n), r->velocity, n), r->effort, n);
    for (size_t i = 0; i < n; i++) p = put16(p, r->faults[i]);
    send_frame(b, RWM_STATE, now_us, payload, (size_t)(p - payload));
}

static void send_health(rwm_board *b, uint32_t request, uint32_t now_us, const rwm_reading *r) {
    uint8_t payload[RWM_MAX_PAYLOAD];
    uint8_t *p = put_float(put32(payload, request), r->voltage);
    for (size_t i = 0; i < RWM_COUNTERS; i++) p = put32(p, b->counters[i]);
    p = put_floats(p, r->temperature, b->config.joints);
    send_frame(b, RWM_HEALTH, now_us, payload, (size_t)(p - payload));
}

static void set_power(rwm_board *b, bool on) {
    b->enabled = on;
    b->config.power(b->config.context, on);
}

static void sense(rwm_board *b, rwm_reading *reading) {
    memset(reading, 0, sizeof *reading);
    b->config.sense(b->config.context, reading);
}

static bool faulty(const rwm_board *b, const rwm_reading *r) {
    uint16_t any = r->board_faults;
    for (size_t i = 0; i < b->config.joints; i++) any |= r->faults[i];
    return any != 0;
}

/* Exactly `motors` finite numbers. */
static bool read_setpoint(const rwm_board *b, const uint8_t *payload, size_t count, float *set) {
    if (count != 4u * b->config.motors) return false;
    for (size_t i = 0; i < b->config.motors; i++) {
        uint32_t bits = get32(payload + 4 * i);
        if ((bits & 0x7f800000u) == 0x7f800000u) return false;
        memcpy(&set[i], &bits, sizeof bits);
    }
    return true;
}

static void obey(rwm_board *b, const uint8_t *frame, size_t count, uint32_t now_us) {
    uint8_t type = frame[1];
    uint32_t sequence = get32(frame + 4);
    uint32_t age_us = now_us - get32(frame + 8);
    uint32_t longest_us = 1000u * b->config.watchdog_ms;
    const uint8_t *payload = frame + RWM_HEADER;
    float set[RWM_MAX_JOINTS];
    rwm_reading reading;

    /* Too old, or from the future: it waited in some buffer, or the clocks disagree. Cutting the power is never too late. */
    if (age_us > longest_us && 0u - age_us > longest_us && type != RWM_DISABLE) {
        b->counters[RWM_LATE]++;
        return;
    }
    if (type == RWM_SETPOINT) {
        if (!b->enabled || !read_setpoint(b, payload, count, set)) {
            b->counters[RWM_REFUSED]++;
            return;
        }
        b->heard_us = now_us;
        b->executed = sequence;
        b->counters[RWM_EXECUTED]++;
        b->config.apply(b->config.context, sequence, set);
        return;
    }
    if ((type == RWM_READ && count != 1) || (type != RWM_READ && count != 0) || type < RWM_READ || type > RWM_DISABLE) {
        b->counters[RWM_REFUSED]++;
        return;
    }
    b->heard_us = now_us;
    sense(b, &reading);
    if (type == RWM_ENABLE && faulty(b, &reading)) {
        b->counters[RWM_REFUSED]++;
    } else if (type == RWM_ENABLE) {
        b->tripped = false;
        if (!b->enabled) set_power(b, true);
    } else if (type == RWM_DISABLE) {
        set_power(b, false);
    }
    send_state(b, sequence, now_us, &reading);
    if (type == RWM_READ && payload[0] == 1) send_health(b, sequence, now_us, &reading);
}

static void greet(rwm_board *b, uint16_t session, uint32_t sequence, uint32_t now_us) {
    set_power(b, false);
    b->tripped = false;
    b->session = session;
    b->last = sequence;
    b->executed = 0;
    b->heard_us = now_us;
    b->counters[RWM_FRAMES]++;
    send_info(b, sequence, now_us);
}

static void take_frame(rwm_board *b, const uint8_t *frame, size_t count, uint32_t now_us) {
    uint16_t session = get16(frame + 2);
    uint32_t sequence = get32(frame + 4);
    bool hello = frame[1] == RWM_HELLO;

    if (frame[0] != RWM_VERSION) {
        b->counters[RWM_OTHER_VERSION]++;
        if (hello) send_info(b, sequence, now_us); /* our version is in its header */
    } else if (hello && session != 0 && session != b->session) {
        b->counters[RWM_LOST] += sequence - 1; /* a session counts from 1 */
        greet(b, session, sequence, now_us);
    } else if (session != b->session || b->session == 0) {
        b->counters[RWM_OTHER_SESSION]++;
        if (b->session == 0) send_info(b, sequence, now_us); /* we have restarted */
    } else if (sequence == b->last) {
        b->counters[RWM_DUPLICATE]++;
    } else if (!is_ahead(sequence, b->last)) {
        b->counters[RWM_STALE]++;
    } else {
        b->counters[RWM_LOST] += sequence - b->last - 1;
        if (hello) {
            greet(b, session, sequence, now_us);
            return;
        }
        b->last = sequence;
        b->counters[RWM_FRAMES]++;
        obey(b, frame, count, now_us);
    }
}

/* What stands before a delimiter. */
static void finish(rwm_board *b, uint32_t now_us) {
    uint8_t frame[RWM_MAX_ENCODED];
    size_t filled = b->filled;
    bool overlong = b->overlong;
    b->filled = 0;
    b->overlong = false;
    if (filled == 0) return;
    int size = overlong ? 0 : rwm_cobs_decode(b->partial, filled, frame);
    if (size < 0) {
        b->counters[RWM_FRAMING]++;
    } else if ((size_t)size < RWM_HEADER + 4) {
        b->counters[RWM_LENGTH]++;
    } else if (rwm_crc32(frame, (size_t)size - 4) != get32(frame + size - 4)) {
        b->counters[RWM_CRC]++;
    } else {
        take_frame(b, frame, (size_t)size - RWM_HEADER - 4, now_us);
    }
}

void rwm_init(rwm_board *board, const rwm_config *config) {
    memset(board, 0, sizeof *board);
    board->config = *config;
    set_power(board, false);
}

void rwm_receive(rwm_board *board, uint8_t byte, uint32_t now_us) {
    board->counters[RWM_BYTES]++;
    if (byte == 0) {
        finish(board, now_us);
    } else if (board->filled < RWM_MAX_ENCODED) {
        board->partial[board->filled++] = byte;
    } else {
        board->overlong = true;
    }
}

void rwm_tick(rwm_board *board, uint32_t now_us) {
    rwm_reading reading;
    if (!board->enabled) return;
    if (now_us - board->heard_us > 1000u * board->config.watchdog_ms) {
        board->tripped = true;
        board->counters[RWM_WATCHDOG_TRIPS]++;
        set_power(board, false);
        return;
    }
    sense(board, &reading);
    if (faulty(board, &reading)) set_power(board, false);
}
