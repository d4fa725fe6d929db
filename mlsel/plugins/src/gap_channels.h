// The channels whose products are a SOAP's power spectrum: pairs of species and radial function, or
// what a compressed one makes of them.
#ifndef MLSEL_GAP_CHANNELS_H
#define MLSEL_GAP_CHANNELS_H

#include <array>
#include <vector>

#include "gap_file.h"

namespace mlsel {

struct SoapChannels {
  explicit SoapChannels(const SoapTerm &term);

  /// A channel of one density is a sum of the expansion's (species, n).
  struct Part {
    int to, from;
    double weight = 1;
  };
  std::vector<Part> parts[2];
  int n[2];             // channels of each density
  bool is_symmetric;    // the densities are one, and a product of two channels counts twice
  bool is_mixed;        // channels are sums; else they are the expansion's
  bool is_plain;        // they are not, and all products count

  /// Those of the power spectrum, for each l, in its order: a channel of each density.
  std::vector<std::array<int, 2>> products;
  double across = 1;    // factor of a product of two channels beside the √2 for both orders

  int n_numbers;    // of the descriptor

 private:
  void choose(const SoapTerm &term);
  void mix(const SoapTerm &term);
  void couple(const SoapTerm &term);
  void couple_mixed(const SoapTerm &term);
  void couple_turbo(const SoapTerm &term);
};

}    // namespace mlsel
#endif
