/* Sleeps until it is told to end, or ten minutes have gone by. */
#include <unistd.h>

int main(void) { return sleep(600) != 0; }
