/* The board's side of robot_wm's serial protocol (docs/serial_protocol.md): frames, session, watchdog.
 *
 * C99; needs <stdint.h>, <stddef.h>, <stdbool.h> and memcpy. No heap, no clock, no I/O: the caller brings bytes, time and the
 * four callbacks below. One thread or interrupt level only; state is about 0.5 KiB, and nothing here waits.
 */
#ifndef RWM_BOARD_H
#define RWM_BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RWM_VERSION 1u
#define RWM_MAX_JOINTS 15u
#define RWM_HEADER 12u
#define RWM_LARGEST 252u /* bytes of a frame before COBS */
#define RWM_MAX_PAYLOAD (RWM_LARGEST - RWM_HEADER - 4u)
#define RWM_MAX_ENCODED (RWM_LARGEST + 1u) /* without the delimiter */

enum rwm_type {
    RWM_HELLO = 0x01,
    RWM_READ = 0x02,
    RWM_SETPOINT = 0x03,
    RWM_ENABLE = 0x04,
    RWM_DISABLE = 0x05,
    RWM_INFO = 0x81,
    RWM_STATE = 0x82,
    RWM_HEALTH = 0x83
};

enum rwm_mode { RWM_POSITION = 0, RWM_VELOCITY = 1, RWM_EFFORT = 2 };

enum rwm_fields {
    RWM_HAS_POSITION = 1,
    RWM_HAS_VELOCITY = 2,
    RWM_HAS_EFFORT = 4,
    RWM_HAS_TEMPERATURE = 8,
    RWM_HAS_VOLTAGE = 16
};

enum rwm_flags { RWM_ENABLED = 1, RWM_WATCHDOG = 2 };

/* Counters since power-up, in the order of a HEALTH frame. */
enum rwm_counter {
    RWM_BYTES,
    RWM_FRAMES,
    RWM_CRC,
    RWM_FRAMING,
    RWM_LENGTH,
    RWM_OTHER_VERSION,
    RWM_OTHER_SESSION,
    RWM_LOST,
    RWM_DUPLICATE,
    RWM_STALE,
    RWM_LATE,
    RWM_REFUSED,
    RWM_EXECUTED,
    RWM_WATCHDOG_TRIPS,
    RWM_COUNTERS
};

/* One reading; fill what `fields` promises. Fault words: see docs/serial_protocol.md. */
typedef struct {
    uint32_t captured_us;
    uint16_t board_faults;
    uint16_t faults[RWM_MAX_JOINTS];
    float position[RWM_MAX_JOINTS];
    float velocity[RWM_MAX_JOINTS];
    float effort[RWM_MAX_JOINTS];
    float temperature[RWM_MAX_JOINTS]; /* deg C */
    float voltage;                     /* V */
} rwm_reading;

typedef struct {
    uint8_t joints; /* 1..RWM_MAX_JOINTS; the first `motors` of them are driven */
    uint8_t motors;
    uint8_t mode;   /* enum rwm_mode */
    uint8_t fields; /* enum rwm_fields */
    uint16_t watchdog_ms;
    char hardware_id[16];                                              /* ASCII, zero-padded */
    void *context;                                                     /* handed to the callbacks */
    void (*send)(void *context, const uint8_t *bytes, size_t count);   /* queue bytes; must not wait */
    void (*power)(void *context, bool on);                             /* on: start with zero, or where the joints are */
    void (*apply)(void *context, uint32_t sequence, const float *set); /* set[motors]; finite, in order, each once */
    void (*sense)(void *context, rwm_reading *reading);
} rwm_config;

typedef struct {
    rwm_config config;
    uint32_t counters[RWM_COUNTERS];
    uint8_t partial[RWM_MAX_ENCODED];
    uint16_t filled;
    bool overlong;
    bool enabled;
    bool tripped;
    uint16_t session; /* 0: none yet */
    uint32_t last;    /* sequence of the newest frame of the session */
    uint32_t executed;
    uint32_t sent;     /* sequence of our newest frame */
    uint32_t heard_us; /* when the newest frame of the session came */
} rwm_board;

/* Once, at power-up. Calls power(false). */
void rwm_init(rwm_board *board, const rwm_config *config);

/* For every byte received, in order. `now_us` is a free-running 32-bit microsecond clock. */
void rwm_receive(rwm_board *board, uint8_t byte, uint32_t now_us);

/* At least every millisecond: the watchdog, and motors off on a fault. */
void rwm_tick(rwm_board *board, uint32_t now_us);

/* Also usable alone: CRC-32/ISO-HDLC (as zlib), and COBS. */
uint32_t rwm_crc32(const uint8_t *bytes, size_t count);
size_t rwm_cobs_encode(const uint8_t *bytes, size_t count, uint8_t *out); /* count <= 254; writes count + 1 */
int rwm_cobs_decode(const uint8_t *bytes, size_t count, uint8_t *out);    /* decoded size, or -1 */

#ifdef __cplusplus
}
#endif

#endif
