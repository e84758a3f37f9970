// Runs the CNI plugin's scanner on many texts: on standard input each is its length (four bytes,
// little-endian) and its bytes; for each, a line says what was found for "key". Each text has memory of its
// own size, so that a checked build sees a step beyond its end.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "../../cni/scan.h"

int main(void)
{
	uint32_t length;

	while (fread(&length, sizeof(length), 1, stdin) == 1) {
		char *json = malloc(length);
		char found[16];

		if (fread(json, 1, length, stdin) != length)
			return 2;
		switch (find_text(json, length, "key", found, sizeof(found))) {
		case ABSENT:
			printf("absent\n");
			break;
		case BROKEN:
			printf("broken\n");
			break;
		case FOUND:
			for (const char *at = found; *at; at++)
				printf("%02x", (unsigned char)*at);
			printf(".\n");
			break;
		}
		free(json);
	}
	return 0;
}
