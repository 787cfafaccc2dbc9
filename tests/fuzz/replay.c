/* The main of a fuzz entry in `make test`: runs it once on each file that is named, so that what
 * fuzzing found stays mended. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* In a block of exactly its size, so that a read past the end is seen. */
static int replay(const char *path)
{
    struct stat status;
    FILE *file = fopen(path, "re");
    if (file == NULL || fstat(fileno(file), &status) < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    size_t size = (size_t)status.st_size;
    uint8_t *bytes = malloc(size);
    size_t got = fread(bytes, 1, size, file);
    fclose(file);
    if (got == size)
        LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
    return got == size ? 0 : -1;
}

int main(int argc, char *argv[])
{
    for (int i = 1; i < argc; i++) {
        if (replay(argv[i]) < 0)
            return EXIT_FAILURE;
    }
    printf("%s: %d inputs replayed\n", argv[0], argc - 1);
    return EXIT_SUCCESS;
}
