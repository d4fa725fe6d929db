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
  std::vector<int> readout;            // widths of the output network's layers; the last is 1
  bool readout_per_element = false;    // a network for each of the file's species
  bool has_rigidity = false;    // a matrix for each output network: lengths are uncertainties
  std::map<std::string, std::vector<double>> arrays;

  /// How many output networks there are, and what the names of one's arrays begin with.
  size_t n_networks(size_t n_species) const { return readout_per_element ? n_species : 1; }
  std::string network(size_t species) const
  {
    return readout_per_element ? "element" + std::to_string(species) + '/' : std::string();
  }

  const std::vector<double> &array(const std::string &name) const { return arrays.at(name); }
};

struct ModelFile {
  std::string model, dtype;
  double cutoff = 0.0;
  std::vector<std::string> species;
  std::vector<int> numbers;
  std::vector<double> energy_offsets;
  std::vector<double> shortest;    // Å, of the training set, by pair of species; empty: not told
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
