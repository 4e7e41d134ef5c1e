/*
 * A TLS server that knows nothing of libtktrot, and changes its effective group
 * and user all the time, as squid, proftpd and samba do twice in a row: the C
 * library interrupts every thread for each of them. Without rights it "changes"
 * to what it is, which interrupts as much.
 *
 *     changes_user PORT CERT KEY
 *
 * An answer tells how many times that was done.
 */

#define _GNU_SOURCE
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "answer.h"

enum { NOBODY = 65534 };

static atomic_int rounds;
/* Not while somebody is answered: a read with a time limit would be interrupted. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void change_to(gid_t group, uid_t user)
{
    /* A user who was given up gives the group back first. */
    if (user == 0 ? seteuid(user) != 0 || setegid(group) != 0
                  : setegid(group) != 0 || seteuid(user) != 0)
        die("cannot change user and group");
}

static void *change_for_ever(void *unused)
{
    uid_t user = geteuid();
    gid_t group = getegid();
    for (;;) {
        pthread_mutex_lock(&lock);
        if (user == 0)
            change_to(NOBODY, NOBODY);
        change_to(group, user);
        rounds++;
        pthread_mutex_unlock(&lock);
        /* Others get to run, too. */
        usleep(200);
    }
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    if (argc != 4) {
        fprintf(stderr, "usage: changes_user PORT CERT KEY\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *ctx = new_context(argv[2], argv[3]);
    int listener = listen_on(atoi(argv[1]));
    if (pthread_create(&thread, NULL, change_for_ever, NULL) != 0)
        die("cannot start a thread");
    for (;;) {
        char body[32];
        int tcp = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (tcp < 0)
            continue;
        snprintf(body, sizeof body, "%d", rounds);
        pthread_mutex_lock(&lock);
        answer(ctx, tcp, body);
        pthread_mutex_unlock(&lock);
    }
}
