/* Writes a register of the first processor: write-msr NUMBER VALUE. Needs the module msr. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **words)
{
	if (count != 3) {
		fprintf(stderr, "usage: write-msr NUMBER VALUE\n");
		return 2;
	}
	uint64_t value = strtoull(words[2], NULL, 0);
	int msr = open("/dev/cpu/0/msr", O_WRONLY);
	if (msr < 0 || pwrite(msr, &value, sizeof value, strtoul(words[1], NULL, 0)) != sizeof value) {
		perror("write-msr");
		return 1;
	}
	return 0;
}
