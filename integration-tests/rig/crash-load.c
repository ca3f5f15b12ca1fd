/* Loads the kernel that runs when this one panics: crash-load KERNEL INITRD COMMAND-LINE. */
#include <fcntl.h>
#include <linux/kexec.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int count, char **words)
{
	if (count != 4) {
		fprintf(stderr, "usage: crash-load KERNEL INITRD COMMAND-LINE\n");
		return 2;
	}
	int kernel = open(words[1], O_RDONLY), initrd = open(words[2], O_RDONLY);
	if (kernel < 0 || initrd < 0) {
		perror("crash-load");
		return 1;
	}
	if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(words[3]) + 1, words[3], KEXEC_FILE_ON_CRASH)) {
		perror("kexec_file_load");
		return 1;
	}
	return 0;
}
