/*
 * A threaded TLS server that knows nothing of libtktrot: 16 threads accept on
 * one listener, and replace SSL_CTXs that other threads are using, as servers
 * do that take new certificates at run time.
 *
 *     threaded PORT CERT KEY
 *
 * Half of the threads share one SSL_CTX, each of the others has its own. Every
 * 20th connection of a context is its last; HUP replaces them all. TERM ends
 * the server in good order. An answer tells how many contexts were made.
 */

#define _GNU_SOURCE
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "answer.h"

enum { THREADS = 16, SHARING = THREADS / 2, CONNECTIONS = 20 };

/* The newest context of those who share the holder. */
struct holder {
    pthread_mutex_t lock;
    SSL_CTX *ctx;
    int connections;
};

static struct holder holders[THREADS - SHARING + 1]; /* the first is shared */
enum { HOLDERS = sizeof holders / sizeof *holders };

static const char *cert, *key;
static int listener;
static atomic_int made;

static void replace(struct holder *holder)
{
    SSL_CTX *new = new_context(cert, key);
    made++;
    pthread_mutex_lock(&holder->lock);
    SSL_CTX *old = holder->ctx;
    holder->ctx = new;
    holder->connections = 0;
    pthread_mutex_unlock(&holder->lock);
    SSL_CTX_free(old); /* connections of it have references of their own */
}

/* A reference to the context, for one connection. */
static SSL_CTX *borrow(struct holder *holder, int *last)
{
    pthread_mutex_lock(&holder->lock);
    SSL_CTX *ctx = holder->ctx;
    SSL_CTX_up_ref(ctx);
    *last = ++holder->connections == CONNECTIONS;
    pthread_mutex_unlock(&holder->lock);
    return ctx;
}

static void *serve(void *argument)
{
    struct holder *holder = argument;
    for (;;) {
        char body[32];
        int last, tcp = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (tcp < 0 && errno == EINVAL) /* the listener was shut down */
            return NULL;
        if (tcp < 0)
            continue;
        SSL_CTX *ctx = borrow(holder, &last);
        snprintf(body, sizeof body, "%d", made);
        answer(ctx, tcp, body);
        SSL_CTX_free(ctx);
        if (last)
            replace(holder);
    }
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    sigset_t signals;
    int number;

    if (argc != 4) {
        fprintf(stderr, "usage: threaded PORT CERT KEY\n");
        return 2;
    }
    cert = argv[2];
    key = argv[3];
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    for (int i = 0; i < HOLDERS; i++) {
        pthread_mutex_init(&holders[i].lock, NULL);
        replace(&holders[i]);
    }
    listener = listen_on(atoi(argv[1]));
    for (int i = 0; i < THREADS; i++) {
        struct holder *holder = &holders[i < SHARING ? 0 : i - SHARING + 1];
        if (pthread_create(&threads[i], NULL, serve, holder) != 0)
            die("cannot start a thread");
    }
    while (sigwait(&signals, &number) == 0 && number == SIGHUP)
        for (int i = 0; i < HOLDERS; i++)
            replace(&holders[i]);

    shutdown(listener, SHUT_RD);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < HOLDERS; i++)
        SSL_CTX_free(holders[i].ctx);
    close(listener);
    return 0;
}
