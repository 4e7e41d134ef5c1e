/*
 * A process that exits takes its TLS library down while the upkeep thread is
 * there. The thread must not work any more then, and must not end either: what
 * libcrypto keeps for a thread it frees at the thread's end, which would race
 * with its own exit handler, or be lost.
 */

#define _GNU_SOURCE
#include "handshake.h"
#include "threads.h"

/* The first handler that is registered runs last: libcrypto is gone by then. */
static void after_the_library(void)
{
    /* Longer than the thread ever sleeps, which is one second. */
    char tid[32];
    for (int i = 0; i < 15; i++) {
        CHECK(upkeep_threads(tid) == 1, "the upkeep thread ended beside the exit handlers");
        sleep_ms(100);
    }
}

int main(void)
{
    alarm(LIMIT_SECONDS);
    CHECK_INT(atexit(after_the_library), 0);
    SSL_CTX *ctx = new_server();
    tkt_config cfg = config_of("exits");
    cfg.rotate_every = 1;
    cfg.lifetime = 5;
    CHECK_RC(tkt_install(ctx, &cfg), TKT_OK);
    struct outcome full = CONNECT(ctx, TLS1_3_VERSION, NULL, 0);
    forget(&full);
    char tid[32];
    expect_upkeep_threads(1, tid);
    /* Wait for a rotation, which is the thread's own use of the library. */
    tkt_counters before = {.size = sizeof before}, now = {.size = sizeof now};
    CHECK_RC(tkt_stats(ctx, &before), TKT_OK);
    for (int i = 0; now.rotations < before.rotations + 1; i++) {
        CHECK(i < 300, "no rotation");
        sleep_ms(100);
        CHECK_RC(tkt_stats(ctx, &now), TKT_OK);
    }
    SSL_CTX_free(ctx);
    free_certificate();
    return 0;
}
