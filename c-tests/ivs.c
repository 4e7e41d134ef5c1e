/*
 * No IV twice: each thread draws many at once, and what it has drawn must not
 * come to a child, whichever way it forks.
 */

#define _GNU_SOURCE
#include <sys/syscall.h>

#include "handshake.h"

enum { CHILDREN = 3, EACH = 12, MOST = 512 };

static unsigned char seen[MOST][IV_LEN];
static int seen_count;

static void note(const unsigned char iv[IV_LEN])
{
    CHECK(seen_count < MOST, "more than %d", MOST);
    for (int i = 0; i < seen_count; i++)
        CHECK(memcmp(seen[i], iv, IV_LEN) != 0, "ticket %d has the IV of ticket %d", seen_count, i);
    memcpy(seen[seen_count++], iv, IV_LEN);
}

/* The IV of a full handshake's last ticket: it follows the key's name. */
static void iv_of_a_ticket(SSL_CTX *ctx, int version, unsigned char iv[IV_LEN])
{
    const unsigned char *ticket;
    size_t len;
    struct outcome full = CONNECT(ctx, version, NULL, 0);
    SSL_SESSION_get0_ticket(full.session, &ticket, &len);
    CHECK(len > NAME_LEN + IV_LEN, "a ticket of %zu bytes", len);
    memcpy(iv, ticket + NAME_LEN, IV_LEN);
    forget(&full);
}

/* fork(3), or the system call alone, which runs no fork handlers. */
static pid_t fork_by(int bare)
{
    if (!bare)
        return fork_bounded();
    pid_t child = (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
    CHECK(child >= 0, "clone failed");
    if (child == 0)
        alarm(LIMIT_SECONDS);
    return child;
}

static void children_and_parent(SSL_CTX *ctx, int bare)
{
    int ends[2];
    unsigned char iv[IV_LEN];
    pid_t children[CHILDREN];
    CHECK_INT(pipe(ends), 0);
    /* The parent has drawn, and has most of it left. */
    iv_of_a_ticket(ctx, TLS1_2_VERSION, iv);
    note(iv);
    for (int child = 0; child < CHILDREN; child++) {
        children[child] = fork_by(bare);
        if (children[child] == 0) {
            for (int i = 0; i < EACH; i++) {
                iv_of_a_ticket(ctx, VERSIONS[i % 2], iv);
                CHECK_INT(write(ends[1], iv, IV_LEN), IV_LEN);
            }
            _exit(0);
        }
    }
    for (int i = 0; i < EACH; i++) {
        iv_of_a_ticket(ctx, VERSIONS[i % 2], iv);
        note(iv);
    }
    for (int child = 0; child < CHILDREN; child++)
        expect_success(children[child]);
    close(ends[1]);
    for (int i = 0; i < CHILDREN * EACH; i++) {
        CHECK_INT(read(ends[0], iv, IV_LEN), IV_LEN);
        note(iv);
    }
    close(ends[0]);
}

int main(void)
{
    alarm(LIMIT_SECONDS);
    tkt_config cfg = config_of("ivs");
    cfg.upkeep = TKT_UPKEEP_CALLBACK;
    SSL_CTX *ctx = new_server();
    CHECK_RC(install(ctx, &cfg), TKT_OK);
    children_and_parent(ctx, 0);
    children_and_parent(ctx, 1);
    /* More than one draw brings. */
    for (int i = 0; i < 150; i++) {
        unsigned char iv[IV_LEN];
        iv_of_a_ticket(ctx, VERSIONS[i % 2], iv);
        note(iv);
    }
    CHECK_INT(seen_count, 2 * (1 + EACH + CHILDREN * EACH) + 150);
    SSL_CTX_free(ctx);
    free_certificate();
    return 0;
}
