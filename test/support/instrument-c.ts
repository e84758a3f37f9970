// Counts the branches of the kernel programs: a store at the beginning of each, put into a copy of the sources. Knows as
// much C as bpf/ is written in: functions whose braces stand alone on their line, statements, no macros that hold any.

/** A branch: where it begins, and whether it is the one that is not written (an if without its else). */
export type Branch = { readonly file: string; readonly line: number; readonly kind: 'taken' | 'not-taken' };

/** Where a source stands in between. Whatever is put in keeps to the lines that are there. */
class Instrumenter {
  readonly #text: string;
  readonly #code: string;
  readonly #file: string;
  readonly #branches: Branch[];
  #at = 0;
  #done = 0;
  #out = '';

  constructor(file: string, text: string, branches: Branch[]) {
    this.#file = file;
    this.#text = text;
    this.#code = withoutComments(text);
    this.#branches = branches;
  }

  run(): string {
    for (const body of this.#code.matchAll(/\)\n\{\n/g)) {
      this.#at = body.index + 2;
      this.#branch();
    }
    this.#copy(this.#text.length);
    return this.#out;
  }

  #branch(): void {
    this.#skip();
    if (this.#code[this.#at] === '{') {
      this.#at++;
      this.#mark('taken');
      this.#block();
      return;
    }
    this.#insert('{');
    this.#mark('taken');
    this.#statement();
    this.#insert('}');
  }

  /** Behind its opening brace. */
  #block(): void {
    for (this.#skip(); this.#code[this.#at] !== '}'; this.#skip()) this.#statement();
    this.#at++;
  }

  #statement(): void {
    this.#skip();
    const word = /^\w+/.exec(this.#code.slice(this.#at, this.#at + 16))?.[0] ?? '';
    if (word === 'if') this.#choice();
    else if (word === 'for' || word === 'while') this.#loop(word);
    else if (word === 'switch') this.#cases();
    else if (word === 'case' || word === 'default') this.#label();
    else if (this.#code[this.#at] === '{') this.#inner();
    else this.#simple();
  }

  #loop(word: string): void {
    this.#at += word.length;
    this.#parentheses();
    this.#branch();
  }

  #cases(): void {
    this.#at += 'switch'.length;
    this.#parentheses();
    this.#skip();
    this.#inner();
  }

  #label(): void {
    this.#at = this.#code.indexOf(':', this.#at) + 1;
    this.#mark('taken');
  }

  #inner(): void {
    this.#at++;
    this.#block();
  }

  #choice(): void {
    const start = this.#at;
    this.#at += 'if'.length;
    this.#parentheses();
    this.#branch();
    const end = this.#at;
    this.#skip();
    if (/^else\b/.test(this.#code.slice(this.#at, this.#at + 5))) {
      this.#at += 'else'.length;
      this.#branch();
      return;
    }
    this.#at = end;
    this.#insert(' else {');
    this.#mark('not-taken', start);
    this.#insert('}');
  }

  #parentheses(): void {
    this.#skip();
    this.#at++;
    for (let depth = 1; depth > 0; this.#at++) {
      if (this.#code[this.#at] === '(') depth++;
      if (this.#code[this.#at] === ')') depth--;
    }
  }

  /** A statement without statements in it, or a declaration. */
  #simple(): void {
    for (let depth = 0; depth > 0 || this.#code[this.#at] !== ';'; this.#at++) {
      if ('({['.includes(this.#code[this.#at] ?? '.')) depth++;
      if (')}]'.includes(this.#code[this.#at] ?? '.')) depth--;
      if (this.#at > this.#code.length) throw new Error(`${this.#file}: a statement does not end`);
    }
    this.#at++;
  }

  /** Space, and lines of the preprocessor. */
  #skip(): void {
    this.#at += /^(?:\s|#[^\n]*\n)*/.exec(this.#code.slice(this.#at))?.[0].length ?? 0;
  }

  #mark(kind: Branch['kind'], at = this.#at): void {
    this.#insert(` TAKE(${this.#branches.length});`);
    const start = at + (/^[\s{]*/.exec(this.#code.slice(at))?.[0].length ?? 0);
    this.#branches.push({ file: this.#file, line: this.#code.slice(0, start).split('\n').length, kind });
  }

  #insert(text: string): void {
    this.#copy(this.#at);
    this.#out += text;
  }

  #copy(end: number): void {
    this.#out += this.#text.slice(this.#done, end);
    this.#done = end;
  }
}

/** Comments become as much space, so that every place stays where it is. */
function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, (comment) => comment.replace(/[^\n]/g, ' '));
}

/** The source with a `TAKE(its number);` in each of its branches, which it adds to the list. */
export function instrument(file: string, text: string, branches: Branch[]): string {
  return new Instrumenter(file, text, branches).run();
}
