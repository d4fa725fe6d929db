#include "model_file.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "files.h"
#include "json.h"

namespace mlsel {
namespace {

using json = LAMMPS_NS::json;

constexpr int FORMAT_VERSION = 1;
constexpr int LARGEST_WIDTH = 1 << 14;

struct Entry {
  size_t offset, size;
};

/// Little-endian number of n bytes; the caller has checked that they are there.
uint64_t number(const std::string &bytes, size_t at, int n)
{
  uint64_t value = 0;
  for (int k = n - 1; k >= 0; k--) value = value << 8 | static_cast<unsigned char>(bytes[at + k]);
  return value;
}

uint32_t crc32(const char *data, size_t n)
{
  static const auto table = [] {
    std::array<uint32_t, 256> made{};
    for (uint32_t k = 0; k < 256; k++) {
      uint32_t c = k;
      for (int bit = 0; bit < 8; bit++) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
      made[k] = c;
    }
    return made;
  }();
  uint32_t c = 0xFFFFFFFFu;
  for (size_t k = 0; k < n; k++)
    c = table[(c ^ static_cast<unsigned char>(data[k])) & 0xFF] ^ (c >> 8);
  return c ^ 0xFFFFFFFFu;
}

/// The archive's directory: stored entries by the end of their name, their checksums verified, so
/// that a damaged file is found before torch sees it. Sizes beyond 4 GiB are refused.
std::map<std::string, Entry> directory(const std::string &name, const std::string &bytes)
{
  const char *no_archive = "is no potential that mlsel exported: it is no TorchScript archive, or "
                           "it is cut off";
  constexpr size_t END_SIZE = 22, CENTRAL_SIZE = 46, LOCAL_SIZE = 30;
  if (bytes.size() < END_SIZE) fail(name, no_archive);
  size_t end = std::string::npos;
  const size_t first = bytes.size() > END_SIZE + 65535 ? bytes.size() - END_SIZE - 65535 : 0;
  for (size_t at = bytes.size() - END_SIZE + 1; at-- > first;)
    if (number(bytes, at, 4) == 0x06054b50u) {
      end = at;
      break;
    }
  if (end == std::string::npos) fail(name, no_archive);
  const size_t n_entries = number(bytes, end + 10, 2);
  size_t at = number(bytes, end + 16, 4);
  std::map<std::string, Entry> entries;
  for (size_t k = 0; k < n_entries; k++) {
    if (at > end || end - at < CENTRAL_SIZE || number(bytes, at, 4) != 0x02014b50u)
      fail(name, "is damaged: the archive's directory does not fit");
    const auto method = number(bytes, at + 10, 2);
    const auto checksum = static_cast<uint32_t>(number(bytes, at + 16, 4));
    const size_t size = number(bytes, at + 20, 4), n_name = number(bytes, at + 28, 2);
    const size_t n_extra = number(bytes, at + 30, 2), n_comment = number(bytes, at + 32, 2);
    const size_t header = number(bytes, at + 42, 4);
    if (end - at < CENTRAL_SIZE + n_name + n_extra + n_comment)
      fail(name, "is damaged: the archive's directory does not fit");
    const std::string entry = bytes.substr(at + CENTRAL_SIZE, n_name);
    at += CENTRAL_SIZE + n_name + n_extra + n_comment;
    if (header > end || end - header < LOCAL_SIZE || number(bytes, header, 4) != 0x04034b50u)
      fail(name, "is damaged: entry " + std::to_string(k) + " of the archive is not there");
    const size_t data =
        header + LOCAL_SIZE + number(bytes, header + 26, 2) + number(bytes, header + 28, 2);
    if (data > end || end - data < size)
      fail(name, "is damaged: entry " + std::to_string(k) + " of the archive is cut off");
    if (method != 0) continue;    // deflated code: torch's own reader verifies it
    if (crc32(bytes.data() + data, size) != checksum)
      fail(name, "is damaged: the checksum of " + entry + " does not fit");
    const auto slash = entry.find('/');
    entries[slash == std::string::npos ? entry : entry.substr(slash + 1)] = {data, size};
  }
  return entries;
}

template <typename T> T get(const json &object, const char *key)
{
  const auto found = object.find(key);
  if (found == object.end()) throw std::runtime_error(std::string("lacks ") + key);
  try {
    return found->get<T>();
  } catch (const json::exception &) {
    throw std::runtime_error(std::string("holds a ") + key +
                             " of the wrong kind: " + found->dump().substr(0, 60));
  }
}

void check_width(int width, const char *what)
{
  if (width < 1 || width > LARGEST_WIDTH)
    throw std::runtime_error(std::string("has ") + what + " = " + std::to_string(width) +
                             "; it must be between 1 and " + std::to_string(LARGEST_WIDTH));
}

/// The arrays' shapes follow from the numbers: whatever has another shape is refused.
void read_arrays(const json &object, const std::string &bytes, const Entry &entry, size_t n_species,
                 Compressed &compressed)
{
  const auto &index = object.find("arrays");
  if (index == object.end() || !index->is_object()) throw std::runtime_error("lacks arrays");
  const auto read = [&](const std::string &name, std::vector<size_t> shape) {
    const auto found = index->find(name);
    if (found == index->end()) throw std::runtime_error("lacks the array " + name);
    if (get<std::vector<size_t>>(*found, "shape") != shape)
      throw std::runtime_error("holds the array " + name +
                               " in another shape than its numbers say");
    size_t n = 1;
    for (size_t one : shape) n *= one;
    const auto offset = get<size_t>(*found, "offset");
    if (offset > entry.size || (entry.size - offset) / sizeof(double) < n)
      throw std::runtime_error("lacks a part of the array " + name);
    std::vector<double> values(n);
    std::memcpy(values.data(), bytes.data() + entry.offset + offset, n * sizeof(double));
    for (double value : values)
      if (!std::isfinite(value))
        throw std::runtime_error("holds something that is no finite number in " + name);
    compressed.arrays[name] = std::move(values);
  };
  const size_t basis = compressed.n_atom_basis, filters = compressed.n_filters;
  read("embedding", {n_species, basis});
  for (int k = 0; k < compressed.n_layers; k++) {
    const std::string layer = "layer" + std::to_string(k) + '/';
    read(layer + "in2f", {filters, basis});
    read(layer + "f2out0/weight", {basis, filters});
    read(layer + "f2out0/bias", {basis});
    read(layer + "f2out1/weight", {basis, basis});
    read(layer + "f2out1/bias", {basis});
    read(layer + "table", {static_cast<size_t>(compressed.n_knots), 3, filters});
  }
  for (size_t s = 0; s < compressed.n_networks(n_species); s++) {
    size_t width = basis;
    for (size_t k = 0; k < compressed.readout.size(); k++) {
      const size_t next = compressed.readout[k];
      const std::string layer = compressed.network(s) + "readout" + std::to_string(k);
      read(layer + "/weight", {next, width});
      read(layer + "/bias", {next});
      if (k + 1 == compressed.readout.size() && compressed.has_rigidity)
        read(compressed.network(s) + "rigidity", {width + 1, width + 1});
      width = next;
    }
  }
}

void read_compressed(const json &object, const std::string &bytes, const Entry &entry,
                     const ModelFile &file, Compressed &compressed)
{
  compressed.n_layers = get<int>(object, "n_layers");
  compressed.n_atom_basis = get<int>(object, "n_atom_basis");
  compressed.n_filters = get<int>(object, "n_filters");
  compressed.n_knots = get<int>(object, "n_knots");
  compressed.activation = get<std::string>(object, "activation");
  compressed.readout_activation = get<std::string>(object, "readout_activation");
  compressed.readout = get<std::vector<int>>(object, "readout");
  if (object.contains("readout_per_element"))
    compressed.readout_per_element = get<bool>(object, "readout_per_element");
  if (object.contains("rigidity")) compressed.has_rigidity = get<bool>(object, "rigidity");
  // TorchScript then carries an atom's number beside its features
  const int n_features = compressed.n_atom_basis + (compressed.readout_per_element ? 1 : 0);
  if (compressed.n_layers != file.n_layers || n_features != file.widths.back())
    throw std::runtime_error("has tables for another number of layers or features than its model");
  if (get<double>(object, "cutoff") != file.cutoff)
    throw std::runtime_error("has tables for another cutoff than its " +
                             std::to_string(file.cutoff) + " Å");
  check_width(compressed.n_atom_basis, "n_atom_basis");
  check_width(compressed.n_filters, "n_filters");
  if (compressed.n_knots < 2 || compressed.n_knots > 1 << 20)
    throw std::runtime_error("has n_knots = " + std::to_string(compressed.n_knots));
  for (int width : compressed.readout) check_width(width, "readout");
  if (compressed.readout.empty() || compressed.readout.back() != 1)
    throw std::runtime_error("has an output network that does not end in one number");
  for (const std::string &one : {compressed.activation, compressed.readout_activation})
    if (one != "shifted_softplus" && one != "silu" && one != "tanh" && one != "identity")
      throw std::runtime_error("has the activation " + one +
                               ", which the compressed mode does not know");
  read_arrays(object, bytes, entry, file.numbers.size(), compressed);
}

void read_distances(const json &object, ModelFile &file)
{
  const size_t n = file.species.size();
  const auto rows = get<std::vector<std::vector<double>>>(object, "shortest_distances");
  for (const std::vector<double> &row : rows)
    file.shortest.insert(file.shortest.end(), row.begin(), row.end());
  bool is_right = rows.size() == n && file.shortest.size() == n * n;
  for (size_t k = 0; is_right && k < n * n; k++)
    is_right = file.shortest[k] > 0.0 && file.shortest[k] <= file.cutoff &&
        file.shortest[k] == file.shortest[k % n * n + k / n];
  if (!is_right)
    throw std::runtime_error("has shortest_distances that are none: " + std::to_string(n) + " x " +
                             std::to_string(n) + " of them, symmetric, up to the cutoff of " +
                             std::to_string(file.cutoff) + " Å");
}

void read_metadata(const json &object, const std::map<std::string, Entry> &entries, ModelFile &file)
{
  if (!object.is_object() || object.value("format", json()) != json("mlsel-potential"))
    throw std::runtime_error("is no potential that mlsel exported: its format is not "
                             "mlsel-potential");
  const int version = get<int>(object, "format_version");
  if (version != FORMAT_VERSION)
    throw std::runtime_error("has format version " + std::to_string(version) +
                             ", this pair style reads " + std::to_string(FORMAT_VERSION));
  file.model = get<std::string>(object, "model");
  file.dtype = get<std::string>(object, "dtype");
  if (file.dtype != "float32" && file.dtype != "float64")
    throw std::runtime_error("has dtype " + file.dtype + "; float32 and float64 are known");
  file.cutoff = get<double>(object, "cutoff");
  if (!(file.cutoff > 0.0 && file.cutoff < 1000.0))
    throw std::runtime_error("has a cutoff of " + std::to_string(file.cutoff) + " Å");
  const auto units = get<std::map<std::string, std::string>>(object, "units");
  if (units != std::map<std::string, std::string>{{"length", "Angstrom"}, {"energy", "eV"}})
    throw std::runtime_error("is not in the units Angstrom and eV");
  file.species = get<std::vector<std::string>>(object, "species");
  file.numbers = get<std::vector<int>>(object, "numbers");
  file.energy_offsets = get<std::vector<double>>(object, "energy_offsets");
  if (file.species.empty() || file.numbers.size() != file.species.size() ||
      file.energy_offsets.size() != file.species.size())
    throw std::runtime_error("names " + std::to_string(file.species.size()) + " species, " +
                             std::to_string(file.numbers.size()) + " atomic numbers and " +
                             std::to_string(file.energy_offsets.size()) + " energy offsets");
  for (int one : file.numbers)
    if (one < 1 || one > 118)
      throw std::runtime_error("names the atomic number " + std::to_string(one));
  file.n_layers = get<int>(object, "n_layers");
  file.widths = get<std::vector<int>>(object, "widths");
  if (file.n_layers < 1 || file.n_layers > 1000 ||
      static_cast<int>(file.widths.size()) != file.n_layers + 1)
    throw std::runtime_error("has " + std::to_string(file.n_layers) + " layers and " +
                             std::to_string(file.widths.size()) + " widths");
  for (int width : file.widths) check_width(width, "widths");
  if (object.contains("shortest_distances")) read_distances(object, file);

  const auto found = object.find("compressed");
  if (found == object.end() || found->is_null()) return;
  const auto arrays = entries.find("extra/mlsel.bin");
  if (arrays == entries.end()) throw std::runtime_error("lacks the arrays of the compressed mode");
  read_compressed(*found, file.bytes, arrays->second, file, file.compressed);
  file.has_compressed = true;
}

}    // namespace

ModelFile ModelFile::parse(const std::string &name, std::string bytes)
{
  ModelFile file;
  file.bytes = std::move(bytes);
  const auto entries = directory(name, file.bytes);
  const auto found = entries.find("extra/mlsel.json");
  if (found == entries.end())
    fail(name,
         "is no potential that mlsel exported: its archive has no mlsel.json; export it with "
         "mlsel.export_model");
  const Entry &entry = found->second;
  const json object = json::parse(file.bytes.data() + entry.offset,
                                  file.bytes.data() + entry.offset + entry.size, nullptr, false);
  try {
    read_metadata(object, entries, file);
  } catch (const std::exception &exception) {
    fail(name, exception.what());
  }
  return file;
}

}    // namespace mlsel
