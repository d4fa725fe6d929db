// MD5 (RFC 1321), by which QUIP knows a file of sparse points again. Not for keeping secrets.
#ifndef MLSEL_MD5_H
#define MLSEL_MD5_H

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>

namespace mlsel {

/// 32 hexadecimal digits.
inline std::string md5(std::string text)
{
  constexpr int SHIFTS[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
  std::array<uint32_t, 64> sines;
  for (int i = 0; i < 64; i++)
    sines[i] = static_cast<uint32_t>(std::floor(4294967296.0 * std::abs(std::sin(i + 1.0))));

  const uint64_t n_bits = 8 * static_cast<uint64_t>(text.size());
  text += '\x80';
  text.resize((text.size() + 8 + 63) / 64 * 64 - 8, '\0');
  for (int k = 0; k < 8; k++) text += static_cast<char>(n_bits >> (8 * k) & 255);

  std::array<uint32_t, 4> state = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
  for (size_t at = 0; at < text.size(); at += 64) {
    uint32_t words[16];
    for (int k = 0; k < 16; k++) {
      words[k] = 0;
      for (int byte = 3; byte >= 0; byte--)
        words[k] = words[k] << 8 | static_cast<unsigned char>(text[at + 4 * k + byte]);
    }
    auto [a, b, c, d] = state;
    for (int i = 0; i < 64; i++) {
      const int round = i / 16;
      const uint32_t mixed = round == 0 ? (b & c) | (~b & d)
          : round == 1                  ? (d & b) | (~d & c)
          : round == 2                  ? b ^ c ^ d
                                        : c ^ (b | ~d);
      constexpr int STEPS[4] = {1, 5, 3, 7}, STARTS[4] = {0, 1, 5, 0};
      const uint32_t sum = a + mixed + sines[i] + words[(STEPS[round] * i + STARTS[round]) % 16];
      a = d;
      d = c;
      c = b;
      b += std::rotl(sum, SHIFTS[round][i % 4]);
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
  }
  std::string digits;
  for (uint32_t word : state)
    for (int byte = 0; byte < 4; byte++)
      for (int shift : {4, 0}) digits += "0123456789abcdef"[word >> (8 * byte + shift) & 15];
  return digits;
}

}    // namespace mlsel
#endif
