enum class Light { Red, Green, Yellow };
struct Traffic { Light l = Light::Red; void next() { l = l == Light::Red ? Light::Green : l == Light::Green ? Light::Yellow : Light::Red; } Light state() const { return l; } int wait() const { switch (l) { case Light::Red: return 30; case Light::Green: return 20; default: return 5; } } };
