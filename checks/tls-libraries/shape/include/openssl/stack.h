#ifndef SHAPE_STACK_H
#define SHAPE_STACK_H
#include_next <openssl/stack.h>

#undef sk_num
#undef sk_value
#define OPENSSL_sk_num sk_num
#define OPENSSL_sk_value sk_value
int sk_num(const OPENSSL_STACK *stack);
void *sk_value(const OPENSSL_STACK *stack, int index);
#endif
