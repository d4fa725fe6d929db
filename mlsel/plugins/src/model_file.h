// A potential that mlsel.export_model wrote: TorchScript's archive, with mlsel.json and mlsel.bin
// in it. Read without torch, and refused in a sentence when anything in it does not fit.
#ifndef MLSEL_MODEL_FILE_H
#define MLSEL_MODEL_FILE_H

#include <map>
#include <string>
#include <vector>

namespace mlsel {

/// The arrays of the compressed mode.
struct Compressed {
  int n_layers = 0, n_atom_basis = 0, n_filters = 0, n_knots = 0;
  std::string activation, readout_activation;
  std::vector<int> readout;    // widths of the output network's layers; the last is 1
  std::map<std::string, std::vector<double>> arrays;

  const std::vector<double> &array(const std::string &name) const { return arrays.at(name); }
};

struct ModelFile {
  std::string model, dtype;
  double cutoff = 0.0;
  std::vector<std::string> species;
  std::vector<int> numbers;
  std::vector<double> energy_offsets;
  int n_layers = 0;
  std::vector<int> widths;    // features of an atom before the first layer … after the last
  bool has_compressed = false;
  Compressed compressed;
  std::string bytes;    // the whole file, for torch

  /// Throws std::runtime_error with a sentence that begins with `name`.
  static ModelFile parse(const std::string &name, std::string bytes);
};

}    // namespace mlsel
#endif
