/*
 * A server in a shared object, linked with a libssl of its own, that knows
 * nothing of libtktrot. Two contexts with one certificate: their tickets are
 * good for each other only if somebody gives them the same keys.
 */

#define _GNU_SOURCE

#include "module.h"

#define TEST_KNOWS_NOTHING
#include "../handshake.h"

enum { ROUNDS = 20 };

void serve(struct served *served)
{
    unsigned char last[NAME_LEN] = {0};
    SSL_CTX *one = new_server(), *other = new_server();

    memset(served, 0, sizeof *served);
    served->version = OpenSSL_version_num();
    for (int round = 0; round < ROUNDS; round++)
        FOR_EACH_VERSION(version)
        {
            struct outcome full = CONNECT(one, version, NULL, 0);
            CHECK(full.tickets > 0, "no ticket");
            served->full++;
            served->resumed += resumes(one, version, full.session);
            served->elsewhere += resumes(other, version, full.session);
            served->keys += memcmp(last, full.names[0], NAME_LEN) != 0;
            memcpy(last, full.names[0], NAME_LEN);
            if (round == 0 && version == VERSIONS[0])
                memcpy(served->name, last, NAME_LEN);
            forget(&full);
        }
    SSL_CTX_free(one);
    SSL_CTX_free(other);
    free_certificate();
}
