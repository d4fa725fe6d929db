#include "files.h"

#include <sys/stat.h>

#include <climits>
#include <fstream>
#include <stdexcept>

namespace mlsel {

void fail(const std::string &path, const std::string &what)
{
  throw std::runtime_error(path + ' ' + what);
}

std::string read_whole(const std::string &path)
{
  struct stat about = {};
  if (stat(path.c_str(), &about) != 0)
    fail(path, "cannot be read: there is no such file, or it may not be opened");
  if (!S_ISREG(about.st_mode)) fail(path, "cannot be read: it is no file");
  if (about.st_size > INT_MAX)
    fail(path,
         "has " + std::to_string(about.st_size) + " bytes; up to " + std::to_string(INT_MAX) +
             " can be read");
  std::ifstream stream(path, std::ios::binary);
  std::string bytes(static_cast<size_t>(about.st_size), '\0');
  stream.read(bytes.data(), about.st_size);
  if (!stream) fail(path, "cannot be read to its end");
  return bytes;
}

}    // namespace mlsel
