#include "files.h"

#include <sys/stat.h>

#include <climits>
#include <fstream>
#include <stdexcept>

namespace mlsel {

/// How many bytes the character of UTF-8 at a place has, 0 if there is none.
static size_t bytes_of_character(const std::string &text, size_t at)
{
  const auto lead = static_cast<unsigned char>(text[at]);
  const size_t n = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (lead > 0xF4 || n == 0 || at + n > text.size()) return 0;
  for (size_t k = 1; k < n; ++k)
    if ((text[at + k] & 0xC0) != 0x80) return 0;
  const auto second = static_cast<unsigned char>(n > 1 ? text[at + 1] : 0x80);
  const bool is_other = (lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
      (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F);
  return is_other ? 0 : n;
}

std::string shortened(std::string text, size_t length)
{
  // who reads a message as UTF-8, LAMMPS's Python module for one, must be able to
  for (size_t at = 0; at < text.size();) {
    const size_t n = bytes_of_character(text, at);
    const auto c = static_cast<unsigned char>(text[at]);
    if (n == 0) text[at] = '?';
    if (c < 32 || c == 127) text[at] = ' ';
    at += n == 0 ? 1 : n;
  }
  if (text.size() <= length) return text;
  const auto continues = [&text](size_t at) { return (text[at] & 0xC0) == 0x80; };
  size_t head = 2 * length / 3, tail = text.size() - (length - 3 - head);
  while (head > 0 && continues(head)) --head;
  while (tail < text.size() && continues(tail)) ++tail;
  return text.substr(0, head) + "..." + text.substr(tail);
}

void fail(const std::string &path, const std::string &what)
{
  throw std::runtime_error(path + ' ' + shortened(what, 240));
}

std::string beside(const std::string &path, const std::string &name)
{
  const auto slash = path.rfind('/');
  return slash == std::string::npos || name.front() == '/' ? name
                                                           : path.substr(0, slash + 1) + name;
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
