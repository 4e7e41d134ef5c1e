#include_next <openssl/crypto.h>

#ifndef SHAPE_CRYPTO_H
#define SHAPE_CRYPTO_H
void CRYPTO_lock(int mode, int type, const char *file, int line);
#endif
