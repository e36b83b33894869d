/* A board without motors, on standard input and output: the reference's example, and what the tests drive through a pty.
 *
 *   cc -std=c99 -Wall -Wextra -Werror -pedantic -O2 -o example rwm_board.c example_posix.c
 *   ./example JOINTS MOTORS MODE WATCHDOG_MS CLOCK_START_US [LOG]
 *
 * In position mode joints go where they are told at once; otherwise they stay at zero. LOG gets a line for every setpoint that
 * reached the motors (sequence, then the bits of each number in hexadecimal), and one for each change of power.
 */
#define _POSIX_C_SOURCE 200809L

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "rwm_board.h"

static rwm_board board;
static float joints[RWM_MAX_JOINTS];
static uint32_t clock_start;
static FILE *log_file;

static uint32_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint32_t)((uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u) + clock_start;
}

static void send_bytes(void *context, const uint8_t *bytes, size_t count) {
    (void)context;
    while (count > 0) {
        ssize_t done = write(STDOUT_FILENO, bytes, count);
        if (done <= 0) exit(1);
        bytes += done;
        count -= (size_t)done;
    }
}

static void power(void *context, bool on) {
    (void)context;
    if (log_file != NULL) fprintf(log_file, "power %d\n", on);
}

static void apply(void *context, uint32_t sequence, const float *set) {
    (void)context;
    if (log_file != NULL) fprintf(log_file, "%lu", (unsigned long)sequence);
    for (size_t i = 0; i < board.config.motors; i++) {
        uint32_t bits;
        memcpy(&bits, &set[i], sizeof bits);
        if (log_file != NULL) fprintf(log_file, " %08lx", (unsigned long)bits);
        if (board.config.mode == RWM_POSITION) joints[i] = set[i];
    }
    if (log_file != NULL) fputc('\n', log_file);
}

static void sense(void *context, rwm_reading *reading) {
    (void)context;
    reading->captured_us = now_us();
    reading->voltage = 24.0f;
    for (size_t i = 0; i < board.config.joints; i++) {
        reading->position[i] = joints[i];
        reading->temperature[i] = 25.0f;
    }
}

int main(int count, char **arguments) {
    uint8_t chunk[4096];
    if (count < 6) return 2;
    rwm_config config = {
        .joints = (uint8_t)atoi(arguments[1]),
        .motors = (uint8_t)atoi(arguments[2]),
        .mode = (uint8_t)atoi(arguments[3]),
        .fields = RWM_HAS_POSITION | RWM_HAS_VELOCITY | RWM_HAS_EFFORT | RWM_HAS_TEMPERATURE | RWM_HAS_VOLTAGE,
        .watchdog_ms = (uint16_t)atoi(arguments[4]),
        .hardware_id = "c-reference",
        .send = send_bytes,
        .power = power,
        .apply = apply,
        .sense = sense,
    };
    clock_start = (uint32_t)strtoul(arguments[5], NULL, 0) - now_us();
    if (count > 6 && (log_file = fopen(arguments[6], "w")) == NULL) return 2;
    rwm_init(&board, &config);
    for (;;) {
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
        if (poll(&input, 1, 1) > 0) {
            ssize_t came = read(STDIN_FILENO, chunk, sizeof chunk);
            if (came <= 0) break;
            for (ssize_t i = 0; i < came; i++) rwm_receive(&board, chunk[i], now_us());
        }
        rwm_tick(&board, now_us());
    }
    if (log_file != NULL) fclose(log_file);
    return 0;
}
