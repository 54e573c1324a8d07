/** Events, models and collections with the interface of WhatsApp Web's own ones: wa-js listens to them. */

export class Emitter {
  #listeners = new Map();

  on(names, listener) {
    for (const name of names.split(' ')) {
      this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), listener]);
    }
    return this;
  }

  once(name, listener) {
    const only = (...values) => {
      this.off(name, only);
      listener(...values);
    };
    return this.on(name, only);
  }

  off(name, listener) {
    this.#listeners.set(name, (this.#listeners.get(name) ?? []).filter((each) => each !== listener));
    return this;
  }

  trigger(name, ...values) {
    for (const listener of this.#listeners.get(name) ?? []) listener(...values);
    return this;
  }
}

export class Model extends Emitter {
  constructor(attributes = {}) {
    super();
    Object.assign(this, attributes);
  }

  get attributes() {
    return this;
  }

  set(name, value) {
    if (this[name] === value) return;
    this[name] = value;
    this.trigger(`change:${name}`, this, value);
    this.collection?.trigger(`change:${name}`, this, value);
    this.collection?.trigger('change', this);
  }
}

export class Collection extends Emitter {
  #models = new Map();

  get(id) {
    return this.#models.get(String(id));
  }

  /** Adds a model, unless there is one with its id: that one stays, and no event is triggered. */
  add(model) {
    const id = String(model.id);
    if (this.#models.has(id)) return this.#models.get(id);
    model.collection ??= this;
    this.#models.set(id, model);
    this.trigger('add', model);
    return model;
  }

  remove(model) {
    if (this.#models.delete(String(model.id))) this.trigger('remove', model);
  }

  get length() {
    return this.#models.size;
  }

  get models() {
    return this.getModelsArray();
  }

  getModelsArray() {
    return [...this.#models.values()];
  }

  toArray() {
    return this.getModelsArray();
  }

  map(change) {
    return this.getModelsArray().map(change);
  }

  forEach(use) {
    this.getModelsArray().forEach(use);
  }

  filter(keep) {
    return this.getModelsArray().filter(keep);
  }

  findFirst(wanted) {
    return this.getModelsArray().find(wanted);
  }

  find(id) {
    return Promise.resolve(this.get(id));
  }
}
