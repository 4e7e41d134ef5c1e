#ifndef SHAPE_CRYPTO_H
#define SHAPE_CRYPTO_H
#include_next <openssl/crypto.h>

void CRYPTO_lock(int mode, int type, const char *file, int line);
#endif
