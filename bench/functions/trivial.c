/* The least that a function can do. */
#include <unistd.h>

int main(void) { return write(1, "1", 1) != 1; }
