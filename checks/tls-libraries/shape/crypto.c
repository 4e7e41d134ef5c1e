/*
 * What libcrypto of LibreSSL says of itself, and has under other names: linked with OpenSSL 1.1.1's,
 * whose functions of these names are called openssl_*.
 */

#include <pthread.h>

#include <openssl/crypto.h>

unsigned long OpenSSL_version_num(void)
{
    return 0x20000000UL;
}

const char *OpenSSL_version(int what)
{
    (void)what;
    return "LibreSSL (a shape of it)";
}

/* One for each type of object. */
void CRYPTO_lock(int mode, int type, const char *file, int line)
{
    static pthread_mutex_t locks[] = {[0 ... 63] = PTHREAD_MUTEX_INITIALIZER};
    (void)file, (void)line;
    if (mode & 1)
        pthread_mutex_lock(&locks[type]);
    else
        pthread_mutex_unlock(&locks[type]);
}
